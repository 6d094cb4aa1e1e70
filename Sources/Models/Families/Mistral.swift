import FermataMixers
import FermataTensors

/// Mistral (Jiang et al. 2023): as Llama, with a window over the last `sliding_window` tokens in every layer.
public enum Mistral: ModelFamily {
  public static let modelType = "mistral"
  public static let architectures = ["MistralModel", "MistralForCausalLM"]
  public static let basePrefix = "model."
  public static let tied = ["lm_head.weight": "model.embed_tokens.weight"]
  public static let ignored = ["rotary_emb.inv_freq"]

  public static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel {
    let decoder = try RotaryDecoder(configuration, maximumLength: 131_072, keyValueHeads: 8)
    let window = try configuration.window(default: 4096) ?? 0
    var random = RandomSource.none
    return try decoder.model(random: &random) { _, random in
      try decoder.block(decoder.attention(window: window, random: &random), random: &random)
    }
  }
}
