import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors

/// Mamba (Gu & Dao 2023): blocks of one norm and one mixer, no attention and no feed-forward.
public enum MambaFamily: ModelFamily {
  public static let modelType = "mamba"
  public static let architectures = ["MambaModel", "MambaForCausalLM"]
  public static let basePrefix = "backbone."
  public static let tied = ["lm_head.weight": "backbone.embeddings.weight"]
  public static let ignored: [String] = []

  public static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel {
    var options = Mamba.Options()
    options.stateSize = try configuration.size("state_size", default: 16)
    options.convolutionWidth = try configuration.size("conv_kernel", default: 4)
    options.expand = try configuration.size("expand", default: 2)
    options.usesBias = try configuration.flag("use_bias") ?? false
    options.usesConvolutionBias = try configuration.flag("use_conv_bias") ?? true
    if configuration.value("time_step_rank") != .string("auto") {
      options.stepRank = try configuration.integer("time_step_rank")
    }
    return try configuration.singleMixerDecoder(
      defaults: .init(width: 768, vocabulary: 50_280, layers: 32, tiesHead: true)
    ) { width, random in
      let channels = try configuration.product(options.expand ?? 2, width, as: "the number of channels")
      _ = try configuration.product(channels, options.stateSize ?? 16, as: "A_log")
      if let intermediate = try configuration.integer("intermediate_size"), intermediate != channels {
        throw configuration.error(
          "intermediate_size must be expand times hidden_size, \(channels), got \(intermediate)")
      }
      return try Mamba(width: width, options: options, random: &random)
    }
  }
}

/// One norm and one mixer: x + mixer(norm(x)).
struct SingleMixerBlock: DecoderBlock {
  var norm: RMSNorm
  var mixer: any Mixer

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("norm", &norm)
    try visitor.module("mixer", &mixer)
  }

  var cut: CutScope { mixer.laws.cut }
  var dependsOnLength: Bool { false }
  mutating func fix(length: Int) {}
  func initialState(batch: Int) throws -> MixerState { try mixer.initialState(batch: batch) }
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    mixer.stateBytes(batch: batch, length: length, dtype: dtype)
  }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    try piece.values + mixer(piece.with(norm(piece.values)), state: &state)
  }
}

extension FamilyConfiguration {
  /// What a family takes for granted where its configuration is silent.
  struct SingleMixerDefaults {
    var width: Int
    var vocabulary: Int
    var layers: Int
    var tiesHead: Bool
  }

  /// A model of blocks of one norm and one mixer, with the names that Mamba's checkpoints have.
  func singleMixerDecoder(
    defaults: SingleMixerDefaults, mixer: (Int, inout RandomSource) throws -> any Mixer
  ) throws -> DecoderModel {
    try refuse("hidden_act", unless: "silu", because: "the convolution and the gate are fused with SiLU")
    let width = try size("hidden_size", default: defaults.width)
    let vocabulary = try size("vocab_size", default: defaults.vocabulary)
    let layers = try layers("num_hidden_layers", default: defaults.layers)
    let epsilon = try epsilon("layer_norm_epsilon", default: 1e-5)
    _ = try product(vocabulary, width, as: "the embedding")
    _ = try product(layers, width, as: "the number of layers")
    var random = RandomSource.none
    var names = DecoderModel.Names()
    (names.layers, names.norm) = ("backbone.layers", "backbone.norm_f")
    let blocks = try (0..<layers).map { _ in
      SingleMixerBlock(norm: try RMSNorm(width, epsilon: epsilon), mixer: try mixer(width, &random))
    }
    return DecoderModel(
      document: json,
      entrance: TokenEntrance(
        TokenEntrance.Names(embedding: "backbone.embeddings"),
        embedding: try Embedding(vocabulary, width, random: &random)
      ), blocks: blocks, norm: try RMSNorm(width, epsilon: epsilon),
      head: try head(width: width, vocabulary: vocabulary, tiesByDefault: defaults.tiesHead, random: &random),
      names: names)
  }
}
