import FermataFiles
import FermataMixers
import FermataTensors

/// Mamba-2 (Dao & Gu 2024): Mamba's blocks with its own mixer.
public enum Mamba2Family: ModelFamily {
  public static let modelType = "mamba2"
  public static let architectures = ["Mamba2Model", "Mamba2ForCausalLM"]
  public static let basePrefix = "backbone."
  public static let tied = ["lm_head.weight": "backbone.embeddings.weight"]
  public static let ignored: [String] = []

  public static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel {
    var options = Mamba2.Options()
    options.heads = try configuration.size("num_heads", default: 128)
    options.headWidth = try configuration.size("head_dim", default: 64)
    options.stateSize = try configuration.size("state_size", default: 128)
    options.groups = try configuration.size("n_groups", default: 8)
    options.convolutionWidth = try configuration.size("conv_kernel", default: 4)
    options.expand = try configuration.size("expand", default: 2)
    options.usesBias = try configuration.flag("use_bias") ?? false
    options.usesConvolutionBias = try configuration.flag("use_conv_bias") ?? true
    options.epsilon = try configuration.epsilon("layer_norm_epsilon", default: 1e-5)
    options.stepLimits = try stepLimits(configuration)
    return try configuration.singleMixerDecoder(
      defaults: .init(width: 4096, vocabulary: 32_768, layers: 64, tiesHead: false)
    ) { width, random in
      let channels = try configuration.product(options.expand ?? 2, width, as: "the number of channels")
      _ = try configuration.product(channels, width, as: "in_proj")
      _ = try configuration.product(
        options.groups ?? 1, options.stateSize ?? 1, width, as: "in_proj")
      return try Mamba2(width: width, options: options, random: &random)
    }
  }

  /// The least and the largest step; the largest may be infinite.
  private static func stepLimits(_ configuration: FamilyConfiguration) throws -> [Float]? {
    guard let given = configuration.value("time_step_limit") else { return nil }
    guard let limits = given.arrayValue?.compactMap(\.doubleValue), limits.count == given.arrayValue?.count else {
      throw configuration.error("time_step_limit must be two numbers, got \(given.kind)")
    }
    return limits.map { Float($0) }
  }
}
