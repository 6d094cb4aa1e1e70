import FermataLayers
import FermataMixers
import FermataTensors

/// Qwen3 (Yang et al. 2025): as Qwen2, with a norm over each head of queries and keys in place of the biases.
public enum Qwen3: ModelFamily {
  public static let modelType = "qwen3"
  public static let architectures = ["Qwen3Model", "Qwen3ForCausalLM"]
  public static let basePrefix = "model."
  public static let tied = ["lm_head.weight": "model.embed_tokens.weight"]
  public static let ignored = ["rotary_emb.inv_freq"]

  public static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel {
    let decoder = try RotaryDecoder(configuration, maximumLength: 32_768, keyValueHeads: 32, headWidth: 128)
    let windows = try Qwen2.windows(decoder)
    let bias = try configuration.flag("attention_bias") ?? false
    var random = RandomSource.none
    return try decoder.model(random: &random) { layer, random in
      var attention = try decoder.attention(window: windows[layer], bias: bias, outputBias: bias, random: &random)
      attention.queryNorm = try RMSNorm(decoder.core.headWidth, epsilon: decoder.epsilon)
      attention.keyNorm = try RMSNorm(decoder.core.headWidth, epsilon: decoder.epsilon)
      return try decoder.block(attention, random: &random)
    }
  }
}
