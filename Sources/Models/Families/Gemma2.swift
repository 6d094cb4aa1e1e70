import FermataLayers
import FermataMixers
import FermataTensors

/// Gemma 2 (Gemma Team 2024): norms before and after mixer and feed-forward, with weights stored less one; scores and logits
/// softly capped; a window in every other layer; embeddings times √width.
public enum Gemma2: ModelFamily {
  public static let modelType = "gemma2"
  public static let architectures = ["Gemma2Model", "Gemma2ForCausalLM"]
  public static let basePrefix = "model."
  public static let tied = ["lm_head.weight": "model.embed_tokens.weight"]
  public static let ignored = ["rotary_emb.inv_freq"]

  public static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel {
    try configuration.refuse(
      "use_bidirectional_attention", unless: false, because: "Gemma 2 reads from left to right here")
    let decoder = try RotaryDecoder(configuration, maximumLength: 8192, keyValueHeads: 4, headWidth: 256)
    let windows = try decoder.windows(configuration.window(default: 4096)) { $0 % 2 == 0 }
    let bias = try configuration.flag("attention_bias") ?? false
    let activation = try configuration.activation("hidden_activation", default: "gelu_pytorch_tanh")
    let scale = try configuration.positive("query_pre_attn_scalar", default: 256)
    let softcap = try configuration.positive("attn_logit_softcapping", default: 50)
    var random = RandomSource.none
    var model = try decoder.model(
      tiesByDefault: true, norm: OffsetRMSNorm(decoder.width, epsilon: decoder.epsilon), random: &random
    ) { layer, random in
      var attention = try decoder.attention(window: windows[layer], bias: bias, outputBias: bias, random: &random)
      attention.core.scale = scale.map { 1 / $0.squareRoot() }
      attention.core.softcap = softcap
      let feedForward = try GatedFeedForward(
        decoder.width, hidden: decoder.hidden, activation: activation, random: &random)
      return try SandwichBlock(
        attention: attention, feedForward: feedForward, width: decoder.width, epsilon: decoder.epsilon)
    }
    model.entrance.scale = Float(decoder.width).squareRoot()
    model.softcap = try configuration.positive("final_logit_softcapping", default: 30)
    return model
  }
}

/// x + norm(mixer(norm(x))), then x + norm(feedForward(norm(x))).
struct SandwichBlock: DecoderBlock {
  var inputNorm: OffsetRMSNorm
  var attention: ProjectedAttention
  var postAttentionNorm: OffsetRMSNorm
  var preFeedForwardNorm: OffsetRMSNorm
  var feedForward: GatedFeedForward
  var postFeedForwardNorm: OffsetRMSNorm

  init(attention: ProjectedAttention, feedForward: GatedFeedForward, width: Int, epsilon: Float) throws {
    self.attention = attention
    self.feedForward = feedForward
    inputNorm = try OffsetRMSNorm(width, epsilon: epsilon)
    postAttentionNorm = inputNorm
    preFeedForwardNorm = inputNorm
    postFeedForwardNorm = inputNorm
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("input_layernorm", &inputNorm)
    try visitor.module("self_attn", &attention)
    try visitor.module("post_attention_layernorm", &postAttentionNorm)
    try visitor.module("pre_feedforward_layernorm", &preFeedForwardNorm)
    try visitor.module("mlp", &feedForward)
    try visitor.module("post_feedforward_layernorm", &postFeedForwardNorm)
  }

  var cut: CutScope { attention.laws.cut }
  var dependsOnLength: Bool { attention.dependsOnLength }
  mutating func fix(length: Int) throws { try attention.fix(length: length) }
  func initialState(batch: Int) throws -> MixerState { try attention.initialState(batch: batch) }
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    attention.stateBytes(batch: batch, length: length, dtype: dtype)
  }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let mixed = try attention(piece.with(inputNorm(piece.values)), state: &state)
    let x = try piece.values + postAttentionNorm(mixed)
    return try x + postFeedForwardNorm(feedForward(preFeedForwardNorm(x)))
  }
}
