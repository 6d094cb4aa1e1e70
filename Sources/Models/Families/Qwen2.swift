import FermataMixers
import FermataTensors

/// Qwen2 (Yang et al. 2024): as Llama, with biases on queries, keys and values, and optionally windows from the layer
/// `max_window_layers` on.
public enum Qwen2: ModelFamily {
  public static let modelType = "qwen2"
  public static let architectures = ["Qwen2Model", "Qwen2ForCausalLM"]
  public static let basePrefix = "model."
  public static let tied = ["lm_head.weight": "model.embed_tokens.weight"]
  public static let ignored = ["rotary_emb.inv_freq"]

  public static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel {
    let decoder = try RotaryDecoder(configuration, maximumLength: 32_768, keyValueHeads: 32)
    let windows = try windows(decoder)
    var random = RandomSource.none
    return try decoder.model(random: &random) { layer, random in
      try decoder.block(decoder.attention(window: windows[layer], bias: true, random: &random), random: &random)
    }
  }

  /// The window of each layer; Qwen3 has the same rule.
  static func windows(_ decoder: RotaryDecoder) throws -> [Int] {
    let configuration = decoder.configuration
    let first = try configuration.integer("max_window_layers") ?? 28
    let window = try configuration.flag("use_sliding_window") == true ? configuration.window(default: 4096) : nil
    return try decoder.windows(window) { $0 >= first }
  }
}
