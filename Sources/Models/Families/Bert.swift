import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors

/// BERT (Devlin et al. 2019): an encoder that reads in both directions; tokens, positions and kinds of tokens add up.
public enum Bert: ModelFamily {
  public static let modelType = "bert"
  public static let architectures = ["BertModel", "BertForMaskedLM", "BertForPreTraining"]
  public static let basePrefix = "bert."
  public static let tied: [String: String] = [:]
  public static let ignored = ["embeddings.position_ids", "cls."]

  public static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel {
    try configuration.refuse("is_decoder", unless: false, because: "BERT is read as an encoder here")
    try configuration.refuse(
      "position_embedding_type", unless: "absolute", because: "positions are learned vectors here")
    let width = try configuration.size("hidden_size", default: 768)
    let vocabulary = try configuration.size("vocab_size", default: 30_522)
    let layers = try configuration.layers("num_hidden_layers", default: 12)
    let heads = try configuration.size("num_attention_heads", default: 12)
    let hidden = try configuration.size("intermediate_size", default: 3072)
    let epsilon = try configuration.epsilon("layer_norm_eps", default: 1e-12)
    guard width % heads == 0 else {
      throw configuration.error("num_attention_heads (\(heads)) must divide hidden_size (\(width))")
    }
    _ = try configuration.product(vocabulary, width, as: "the embedding")
    _ = try configuration.product(hidden, width, as: "the feed-forward")
    _ = try configuration.product(layers, width, as: "the number of layers")
    var random = RandomSource.none
    var entrance = TokenEntrance(
      TokenEntrance.Names(
        embedding: "embeddings.word_embeddings", positions: "embeddings.position_embeddings",
        norm: "embeddings.LayerNorm"),
      embedding: try Embedding(vocabulary, width, random: &random))
    entrance.positions = try LearnedPositions(
      configuration.size("max_position_embeddings", default: 512), width, random: &random)
    entrance.norm = try LayerNorm(width, epsilon: epsilon)
    let names = PostNormBlock.Names(
      mixer: "attention", mixerNorm: "attention.output.LayerNorm", feedForwardNorm: "output.LayerNorm")
    let activation = try configuration.activation("hidden_act", default: "gelu")
    let blocks = try (0..<layers).map { _ in
      try PostNormBlock(
        mixer: BidirectionalAttention(
          width: width, heads: heads,
          names: AttentionProjections.Names(
            query: "self.query", key: "self.key", value: "self.value", output: "output.dense"), random: &random),
        feedForward: PlainFeedForward(
          width, hidden: hidden, activation: activation,
          names: PlainFeedForward.Names(expand: "intermediate.dense", contract: "output.dense"), random: &random),
        width: width, epsilon: epsilon, names: names)
    }
    return BertModel(
      document: configuration.json, entrance: entrance,
      types: try Embedding(configuration.size("type_vocab_size", default: 2), width, random: &random), blocks: blocks,
      pooler: configuration.holds("pooler.dense.weight")
        ? try Linear(width, width, bias: true, random: &random) : nil)
  }
}

/// BERT as an encoder: tokens to hidden states.
public struct BertModel: PretrainedModel {
  public let document: JSONValue
  /// What makes hidden states of tokens.
  public var entrance: TokenEntrance
  /// A vector for each kind of token.
  public var types: Embedding
  /// The layers, first to last.
  public var blocks: [PostNormBlock]
  /// What classifiers read of the first token, where the checkpoint has it: tanh of this.
  public var pooler: Linear?
  public var computeType: DType = .float32

  init(document: JSONValue, entrance: TokenEntrance, types: Embedding, blocks: [PostNormBlock], pooler: Linear?) {
    self.document = document
    self.entrance = entrance
    self.types = types
    self.blocks = blocks
    self.pooler = pooler
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("", &entrance)
    try visitor.module("embeddings.token_type_embeddings", &types)
    for layer in blocks.indices { try visitor.module("encoder.layer.\(layer)", &blocks[layer]) }
    try visitor.module("pooler.dense", &pooler)
  }

  public func outputs(_ inputs: ModelInputs) throws -> ModelOutput {
    ModelOutput(name: "last_hidden_state", values: try hiddenStates(inputs))
  }

  public func hiddenStates(_ inputs: ModelInputs) throws -> Tensor {
    let (batch, length) = (inputs.tokens.shape[0], inputs.tokens.shape[1])
    let kinds = try inputs.types ?? Tensor.zeros([batch, length], .int32)
    let x = try entrance(inputs.tokens, positions: nil, from: 0, as: computeType, adding: types(kinds))
    return try blocks(x, layout: Layout(batch: batch, length: length, valid: inputs.valid)).cast(to: .float32)
  }
}
