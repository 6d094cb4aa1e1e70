import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors

/// What most causal families since Llama share: their sizes under common names, rotary attention with grouped queries, RMS
/// norms before mixer and gated feed-forward. A family says in which defaults and parts it differs.
struct RotaryDecoder {
  let configuration: FamilyConfiguration
  let width: Int
  let vocabulary: Int
  let layers: Int
  let hidden: Int
  let epsilon: Float
  let core: AttentionCore

  /// - Parameters:
  ///   - keyValueHeads: the maker's default; nil: as many as heads.
  ///   - headWidth: the maker's default; nil: width over heads.
  init(
    _ configuration: FamilyConfiguration, maximumLength: Int, keyValueHeads: Int? = nil, headWidth: Int? = nil
  ) throws {
    self.configuration = configuration
    width = try configuration.size("hidden_size")
    vocabulary = try configuration.size("vocab_size")
    layers = try configuration.layers("num_hidden_layers")
    hidden = try configuration.size("intermediate_size")
    epsilon = try configuration.epsilon("rms_norm_eps", default: 1e-6)
    let heads = try configuration.size("num_attention_heads")
    let groups = try configuration.size("num_key_value_heads", default: keyValueHeads ?? heads)
    guard heads % groups == 0 else {
      throw configuration.error("num_key_value_heads (\(groups)) must divide num_attention_heads (\(heads))")
    }
    let size: Int
    if let given = try configuration.integer("head_dim") ?? headWidth {
      size = try configuration.size("head_dim", default: given)
    } else {
      guard width % heads == 0 else {
        throw configuration.error(
          "num_attention_heads (\(heads)) must divide hidden_size (\(width)), or head_dim be given")
      }
      size = width / heads
    }
    _ = try configuration.product(heads, size, width, as: "the matrix of queries")
    _ = try configuration.product(vocabulary, width, as: "the embedding")
    _ = try configuration.product(hidden, width, as: "the feed-forward")
    _ = try configuration.product(layers, width, as: "the number of layers")
    // A length of sequences is no size of the weights: any will do.
    let length = try configuration.integer("max_position_embeddings") ?? maximumLength
    var core = AttentionCore(heads: heads, keyValueHeads: groups, headWidth: size)
    core.positions = try configuration.rotary(headWidth: size, maximumLength: length)
    self.core = core
  }

  /// The window of each layer, 0 for none: from `layer_types`, or from the maker's rule where the configuration has none.
  func windows(_ window: Int?, slides: (Int) -> Bool) throws -> [Int] {
    guard let value = configuration.value("layer_types") else {
      return (0..<layers).map { window != nil && slides($0) ? window ?? 0 : 0 }
    }
    guard let types = value.arrayValue?.compactMap(\.stringValue), types.count == layers else {
      throw configuration.error("layer_types must list a text for each of \(layers) layers")
    }
    return try types.map { type in
      switch type {
      case "full_attention": return 0
      case "sliding_attention":
        guard let window else {
          throw configuration.error("layer_types has 'sliding_attention', but there is no sliding_window")
        }
        return window
      default:
        throw configuration.error(
          "layer_types '\(type)' is unknown (\(StrictJSON.unknown(type, among: ["full_attention", "sliding_attention"])))"
        )
      }
    }
  }

  /// Attention of a layer.
  func attention(window: Int = 0, bias: Bool = false, outputBias: Bool = false, random: inout RandomSource) throws
    -> ProjectedAttention
  {
    var core = core
    core.window = window
    return try ProjectedAttention(width: width, core: core, bias: bias, outputBias: outputBias, random: &random)
  }

  /// The usual block around a layer's attention.
  func block(_ attention: ProjectedAttention, feedForwardBias: Bool = false, random: inout RandomSource) throws
    -> PreNormBlock
  {
    PreNormBlock(
      inputNorm: try RMSNorm(width, epsilon: epsilon), mixer: attention, postNorm: try RMSNorm(width, epsilon: epsilon),
      feedForward: try GatedFeedForward(
        width, hidden: hidden, activation: configuration.activation("hidden_act", default: "silu"),
        bias: feedForwardBias, random: &random))
  }

  /// The whole model.
  func model(
    tiesByDefault: Bool = false, norm: (any Norm)? = nil, random: inout RandomSource,
    block: (Int, inout RandomSource) throws -> any DecoderBlock
  ) throws -> DecoderModel {
    let entrance = TokenEntrance(
      TokenEntrance.Names(embedding: "model.embed_tokens"), embedding: try Embedding(vocabulary, width, random: &random)
    )
    let blocks = try (0..<layers).map { try block($0, &random) }
    return DecoderModel(
      document: configuration.json, entrance: entrance, blocks: blocks,
      norm: try norm ?? RMSNorm(width, epsilon: epsilon),
      head: try configuration.head(
        width: width, vocabulary: vocabulary, tiesByDefault: tiesByDefault, random: &random))
  }
}
