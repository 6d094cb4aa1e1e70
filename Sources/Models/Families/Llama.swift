import FermataMixers
import FermataTensors

/// Llama (Touvron et al. 2023; Grattafiori et al. 2024): rotary attention with grouped queries, SwiGLU, RMS norms.
public enum Llama: ModelFamily {
  public static let modelType = "llama"
  public static let architectures = ["LlamaModel", "LlamaForCausalLM"]
  public static let basePrefix = "model."
  public static let tied = ["lm_head.weight": "model.embed_tokens.weight"]
  public static let ignored = ["rotary_emb.inv_freq"]

  public static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel {
    let decoder = try RotaryDecoder(configuration, maximumLength: 2048)
    let bias = try configuration.flag("attention_bias") ?? false
    let feedForwardBias = try configuration.flag("mlp_bias") ?? false
    var random = RandomSource.none
    return try decoder.model(random: &random) { _, random in
      try decoder.block(
        decoder.attention(bias: bias, outputBias: bias, random: &random), feedForwardBias: feedForwardBias,
        random: &random)
    }
  }
}
