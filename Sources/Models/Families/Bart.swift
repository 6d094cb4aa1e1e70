import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors

/// BART (Lewis et al. 2020): an encoder that reads a text in both directions and a decoder that writes another from left to
/// right, looking at the first.
public enum Bart: ModelFamily {
  public static let modelType = "bart"
  public static let architectures = ["BartModel", "BartForConditionalGeneration"]
  public static let basePrefix = "model."
  public static let tied = [
    "lm_head.weight": "model.shared.weight", "model.encoder.embed_tokens.weight": "model.shared.weight",
    "model.decoder.embed_tokens.weight": "model.shared.weight",
  ]
  public static let ignored = ["encoder.version", "decoder.version"]

  public static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel {
    let width = try configuration.size("d_model", default: 1024)
    let vocabulary = try configuration.size("vocab_size", default: 50_265)
    let positions = try configuration.size("max_position_embeddings", default: 1024)
    _ = try configuration.product(vocabulary, width, as: "the embedding")
    let scale = try configuration.flag("scale_embedding") ?? false ? Float(width).squareRoot() : nil
    var random = RandomSource.none
    func part(_ side: String, embedding: String) throws -> TokenEntrance {
      var entrance = TokenEntrance(
        TokenEntrance.Names(
          embedding: embedding, positions: "model.\(side).embed_positions", norm: "model.\(side).layernorm_embedding"),
        embedding: try Embedding(vocabulary, width, random: &random))
      entrance.scale = scale
      entrance.positions = try LearnedPositions(positions, width, offset: 2, random: &random)
      entrance.norm = try LayerNorm(width)
      return entrance
    }
    var names = DecoderModel.Names()
    (names.layers, names.headBias) = ("model.decoder.layers", "final_logits_bias")
    var decoder = DecoderModel(
      document: configuration.json, entrance: try part("decoder", embedding: "model.shared"),
      blocks: try blocks(configuration, "decoder", width) { block, heads in
        try BartDecoderBlock(block, heads: heads, width: width, random: &random)
      },
      norm: nil,
      head: try configuration.head(width: width, vocabulary: vocabulary, tiesByDefault: true, random: &random),
      names: names)
    if configuration.holds("final_logits_bias") { decoder.headBias = try Tensor.zeros([1, vocabulary]) }
    return BartModel(
      decoder: decoder, entrance: try part("encoder", embedding: ""),
      blocks: try blocks(configuration, "encoder", width) { block, _ in block },
      start: try configuration.integer("decoder_start_token_id") ?? 2)
  }

  /// The layers of a side; `make` adds to the usual block what the side has beside it.
  private static func blocks<Block>(
    _ configuration: FamilyConfiguration, _ side: String, _ width: Int, make: (PostNormBlock, Int) throws -> Block
  ) throws -> [Block] {
    let layers = try configuration.layers("\(side)_layers", default: 12)
    let heads = try configuration.size("\(side)_attention_heads", default: 16)
    let hidden = try configuration.size("\(side)_ffn_dim", default: 4096)
    guard width % heads == 0 else {
      throw configuration.error("\(side)_attention_heads (\(heads)) must divide d_model (\(width))")
    }
    _ = try configuration.product(hidden, width, as: "the feed-forward")
    _ = try configuration.product(layers, width, as: "the number of layers")
    let activation = try configuration.activation("activation_function", default: "gelu")
    var random = RandomSource.none
    return try (0..<layers).map { _ in
      var mixer: any Mixer
      let names = AttentionProjections.Names(output: "out_proj")
      if side == "encoder" {
        mixer = try BidirectionalAttention(width: width, heads: heads, names: names, random: &random)
      } else {
        let core = AttentionCore(heads: heads, keyValueHeads: heads, headWidth: width / heads)
        mixer = try ProjectedAttention(
          width: width, core: core, bias: true, outputBias: true, names: names, random: &random)
      }
      let block = try PostNormBlock(
        mixer: mixer,
        feedForward: PlainFeedForward(
          width, hidden: hidden, activation: activation,
          names: PlainFeedForward.Names(expand: "fc1", contract: "fc2"), random: &random),
        width: width, epsilon: 1e-5,
        names: PostNormBlock.Names(
          mixer: "self_attn", mixerNorm: "self_attn_layer_norm", feedForwardNorm: "final_layer_norm"))
      return try make(block, heads)
    }
  }
}

/// A decoder's layer: attention to what was written, then to the text that was read, then a feed-forward.
struct BartDecoderBlock: DecoderBlock {
  var block: PostNormBlock
  var cross: CrossAttention
  var crossNorm: LayerNorm

  init(_ block: PostNormBlock, heads: Int, width: Int, random: inout RandomSource) throws {
    self.block = block
    cross = try CrossAttention(
      width: width, heads: heads, names: AttentionProjections.Names(output: "out_proj"), random: &random)
    crossNorm = try LayerNorm(width)
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("", &block)
    try visitor.module("encoder_attn", &cross)
    try visitor.module("encoder_attn_layer_norm", &crossNorm)
  }

  var cut: CutScope { block.cut }
  var dependsOnLength: Bool { false }
  mutating func fix(length: Int) {}
  func initialState(batch: Int) throws -> MixerState { try block.initialState(batch: batch) }
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    block.stateBytes(batch: batch, length: length, dtype: dtype)
  }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    // One state holds both: what attention to the sequence itself knows, and the context's keys and values.
    var own = state
    var read = MixerState(position: state.position)
    for name in ["context_keys", "context_values"] {
      read[name] = state[name]
      own[name] = nil
    }
    let x = try block.mixerNorm(piece.values + block.mixer(piece, state: &own))
    let y = try crossNorm(x + cross(piece.with(x), state: &read))
    let z = try block.feedForwardNorm(y + block.feedForward(y))
    for name in read.names { own[name] = read[name] }
    state = own
    return z
  }
}

/// A model that reads one text and writes another.
public protocol EncoderDecoderModel: PretrainedModel {
  /// The decoder once it has a text to look at: a causal model like any other.
  func decoder(reading inputs: ModelInputs) throws -> any CausalModel
  /// The token that every text begins with.
  var startToken: Int { get }
}

/// BART: encoder and decoder over one embedding.
public struct BartModel: EncoderDecoderModel {
  /// The half that writes.
  public var decoder: DecoderModel
  /// Of the encoder; its embedding is the decoder's.
  public var entrance: TokenEntrance
  /// The layers of the half that reads.
  public var blocks: [PostNormBlock]
  /// The token that the half that writes begins with.
  public let startToken: Int

  init(decoder: DecoderModel, entrance: TokenEntrance, blocks: [PostNormBlock], start: Int) {
    self.decoder = decoder
    self.entrance = entrance
    self.blocks = blocks
    startToken = start
  }

  public var document: JSONValue { decoder.document }
  public var computeType: DType {
    get { decoder.computeType }
    set { decoder.computeType = newValue }
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("", &decoder)
    try visitor.module("", &entrance)
    for layer in blocks.indices { try visitor.module("model.encoder.layers.\(layer)", &blocks[layer]) }
  }

  public func decoder(reading inputs: ModelInputs) throws -> any CausalModel {
    var copy = decoder
    copy.context = DecoderContext(values: try encoded(inputs), valid: inputs.valid)
    return copy
  }

  public func hiddenStates(_ inputs: ModelInputs) throws -> Tensor { try encoded(inputs).cast(to: .float32) }

  private func encoded(_ inputs: ModelInputs) throws -> Tensor {
    var entrance = entrance
    entrance.embedding = decoder.entrance.embedding
    let x = try entrance(inputs.tokens, positions: nil, from: 0, as: computeType)
    return try blocks(x, layout: Layout(batch: x.shape[0], length: x.shape[1], valid: inputs.valid))
  }

  public func outputs(_ inputs: ModelInputs) throws -> ModelOutput {
    let tokens = try inputs.decoderTokens ?? shifted(inputs.tokens)
    return try decoder(reading: inputs).outputs(ModelInputs(tokens: tokens))
  }

  /// What a decoder reads to write the same text again: the start, then all but the last token.
  private func shifted(_ tokens: Tensor) throws -> Tensor {
    let start = try Tensor(
      [Int32](repeating: Int32(clamping: startToken), count: tokens.shape[0]), shape: [tokens.shape[0], 1])
    return try Tensor.concatenated([start, tokens.slice(0..<max(tokens.shape[1] - 1, 0), axis: 1)], axis: 1)
  }
}
