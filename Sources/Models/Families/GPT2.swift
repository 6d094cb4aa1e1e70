import FermataLayers
import FermataMixers
import FermataTensors

/// GPT-2 (Radford et al. 2019): learned positions, layer norms with biases, one matrix for queries, keys and values, all
/// matrices stored the other way round.
public enum GPT2: ModelFamily {
  public static let modelType = "gpt2"
  public static let architectures = ["GPT2Model", "GPT2LMHeadModel"]
  public static let basePrefix = "transformer."
  public static let tied = ["lm_head.weight": "transformer.wte.weight"]
  public static let ignored = [".attn.bias", ".attn.masked_bias"]

  public static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel {
    try configuration.refuse("add_cross_attention", unless: false, because: "GPT-2 reads no other sequence here")
    let width = try configuration.size("n_embd", default: 768)
    let vocabulary = try configuration.size("vocab_size", default: 50_257)
    let layers = try configuration.layers("n_layer", default: 12)
    let heads = try configuration.size("n_head", default: 12)
    let positions = try configuration.size("n_positions", default: 1024)
    guard width % heads == 0 else { throw configuration.error("n_head (\(heads)) must divide n_embd (\(width))") }
    _ = try configuration.product(vocabulary, width, as: "the embedding")
    _ = try configuration.product(layers, width, as: "the number of layers")
    var random = RandomSource.none
    var entrance = TokenEntrance(
      TokenEntrance.Names(embedding: "transformer.wte", positions: "transformer.wpe"),
      embedding: try Embedding(vocabulary, width, random: &random))
    entrance.positions = try LearnedPositions(positions, width, random: &random)
    let blocks = try (0..<layers).map { try block(configuration, width, heads, layer: $0, &random) }
    var names = DecoderModel.Names()
    (names.layers, names.norm) = ("transformer.h", "transformer.ln_f")
    return DecoderModel(
      document: configuration.json, entrance: entrance, blocks: blocks, norm: try norm(configuration, width),
      head: try configuration.head(width: width, vocabulary: vocabulary, tiesByDefault: true, random: &random),
      names: names)
  }

  private static func norm(_ configuration: FamilyConfiguration, _ width: Int) throws -> LayerNorm {
    try LayerNorm(width, epsilon: configuration.epsilon("layer_norm_epsilon", default: 1e-5))
  }

  private static func block(
    _ configuration: FamilyConfiguration, _ width: Int, _ heads: Int, layer: Int, _ random: inout RandomSource
  ) throws -> PreNormBlock {
    var core = AttentionCore(heads: heads, keyValueHeads: heads, headWidth: width / heads)
    var scale = try configuration.flag("scale_attn_weights") ?? true ? 1 / Float(width / heads).squareRoot() : 1
    if try configuration.flag("scale_attn_by_inverse_layer_idx") ?? false { scale /= Float(layer + 1) }
    core.scale = scale
    let hidden = try configuration.size("n_inner", default: configuration.product(4, width, as: "the feed-forward"))
    _ = try configuration.product(hidden, width, as: "the feed-forward")
    var names = PreNormBlock.Names()
    (names.inputNorm, names.mixer, names.postNorm) = ("ln_1", "attn", "ln_2")
    return PreNormBlock(
      inputNorm: try norm(configuration, width),
      mixer: try JoinedAttention(width: width, core: core, random: &random), postNorm: try norm(configuration, width),
      feedForward: try TransposedFeedForward(
        width, hidden: hidden, activation: configuration.activation("activation_function", default: "gelu_new"),
        random: &random),
      names: names)
  }
}

/// Causal attention with queries, keys and values from one transposed matrix.
struct JoinedAttention: Mixer {
  var joined: TransposedLinear
  var output: TransposedLinear
  let core: AttentionCore

  init(width: Int, core: AttentionCore, random: inout RandomSource) throws {
    joined = try TransposedLinear(width, 3 * width, random: &random)
    output = try TransposedLinear(width, width, random: &random)
    self.core = core
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("c_attn", &joined)
    try visitor.module("c_proj", &output)
  }

  var laws: Laws { Laws(cut: .causal, merge: .associative(cost: "keys and values of the stretch")) }
  func initialState(batch: Int) throws -> MixerState { MixerState() }
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    core.stateBytes(batch: batch, length: length, dtype: dtype)
  }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let width = core.heads * core.headWidth
    let parts = try joined(piece.values).split(sizes: [width, width, width], axis: 2)
    return try output(
      core(query: parts[0], key: parts[1], value: parts[2], layout: piece.layout, state: &state))
  }
}

/// y = project(act(expand(x))) with transposed matrices.
struct TransposedFeedForward: FeedForwardLayer {
  var expand: TransposedLinear
  var project: TransposedLinear
  let activation: Activation

  init(_ width: Int, hidden: Int, activation: Activation, random: inout RandomSource) throws {
    expand = try TransposedLinear(width, hidden, random: &random)
    project = try TransposedLinear(hidden, width, random: &random)
    self.activation = activation
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("c_fc", &expand)
    try visitor.module("c_proj", &project)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor { try project(activation(expand(x))) }
}
