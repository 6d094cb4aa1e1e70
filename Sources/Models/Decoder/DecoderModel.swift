import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors

/// What a decoder reads beside its own sequence: an encoder's hidden states.
public struct DecoderContext: Sendable {
  /// (batch, context length, width)
  public var values: Tensor
  /// U8 (batch, context length): 0 for padding. nil: all valid.
  public var valid: Tensor?

  /// What a decoder reads, and which of it is valid.
  public init(values: Tensor, valid: Tensor? = nil) {
    self.values = values
    self.valid = valid
  }
}

/// A causal model assembled from parts: entrance, blocks, norm, head. Families differ in the parts and in what checkpoints
/// call them. It obeys the cut law because its blocks do.
public struct DecoderModel: CausalModel {
  /// What checkpoints call the parts.
  public struct Names: Sendable {
    /// The blocks; each has its number behind.
    public var layers = "model.layers"
    /// The last norm.
    public var norm = "model.norm"
    /// The matrix of logits.
    public var head = "lm_head"
    /// The bias of logits; empty where there is none.
    public var headBias = ""

    /// As Llama has them.
    public init() {}
  }

  /// Where logits come from.
  public enum Head: Sendable {
    /// The embedding's table.
    case tied
    case own(Linear)
    /// Nowhere: the model ends with hidden states.
    case none
  }

  private let source: JSONValue
  /// The length of sequences that was fixed, where something depends on it.
  public private(set) var fixedLength: Int?
  /// What makes hidden states of tokens.
  public var entrance: TokenEntrance
  /// The layers, first to last.
  public var blocks: [any DecoderBlock]
  /// nil where the last block norms its output.
  public var norm: (any Norm)?
  /// Where logits come from.
  public var head: Head
  /// (vocabulary), added to logits; nil: nothing is.
  public var headBias: Tensor?
  /// The largest logit, approached by tanh; nil: none.
  public var softcap: Float?
  public var computeType: DType = .float32
  /// For a decoder of an encoder-decoder: what its cross attention reads.
  public var context: DecoderContext?
  private let names: Names

  /// A model of these parts. `document` is its configuration as config.json has it.
  public init(
    document: JSONValue, entrance: TokenEntrance, blocks: [any DecoderBlock], norm: (any Norm)?, head: Head,
    names: Names = Names()
  ) {
    source = document
    self.entrance = entrance
    self.blocks = blocks
    self.norm = norm
    self.head = head
    self.names = names
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("", &entrance)
    for layer in blocks.indices { try visitor.module("\(names.layers).\(layer)", &blocks[layer]) }
    if var last = norm {
      try visitor.module(names.norm, &last)
      norm = last
    }
    if case .own(var linear) = head {
      try visitor.module(names.head, &linear)
      head = .own(linear)
    }
    try visitor.parameter(names.headBias, &headBias)
  }

  /// With the length that was fixed, so that states of models fixed for different lengths are told apart.
  public var document: JSONValue {
    guard let fixedLength, case .object(var members) = source else { return source }
    members["fermata_fixed_length"] = .int(fixedLength)
    return .object(members)
  }

  public var vocabularySize: Int { entrance.embedding.weight.shape[0] }
  public var width: Int { entrance.embedding.weight.shape[1] }

  public var cut: CutScope {
    let scopes = blocks.map(\.cut)
    return scopes.contains(.none) ? .none : scopes.contains(.afterSeal) ? .afterSeal : .causal
  }

  public var maximumLength: Int? { entrance.positions?.count }
  public var dependsOnLength: Bool { blocks.contains(where: \.dependsOnLength) }
  public mutating func fix(length: Int) throws {
    guard dependsOnLength else { return }
    fixedLength = length
    for layer in blocks.indices { try blocks[layer].fix(length: length) }
  }

  public func initialState(batch: Int) throws -> ModelState {
    ModelState(layers: try blocks.map { try $0.initialState(batch: batch) })
  }

  public func hidden(_ tokens: Tensor, layout: Layout?, state: inout ModelState) throws -> Tensor {
    try require(
      tokens.rank == 2 && tokens.dtype == .int32 && state.layers.count == blocks.count, "model",
      expected: "I32 tokens (batch, length) and a state of \(blocks.count) layers",
      got: "\(tokens) and \(state.layers.count) layers")
    let layout = layout ?? Layout(batch: tokens.shape[0], length: tokens.shape[1])
    var x = try entrance(tokens, positions: layout.positions, from: state.position, as: computeType)
    let context = try self.context.map { try $0.values.cast(to: computeType) }
    var next = state
    for (index, block) in blocks.enumerated() {
      // As in `LanguageModel`: `state` stays whole in case a layer throws.
      var layerState = next.layers[index]
      next.layers[index] = MixerState()
      let piece = try Piece(x, layout: layout, context: context, contextValid: self.context?.valid)
      x = try block(piece, state: &layerState)
      next.layers[index] = layerState
    }
    state = next
    return try norm?(x) ?? x
  }

  public func languageHead() throws -> LanguageHead {
    switch head {
    case .tied: LanguageHead(weight: entrance.embedding.weight, bias: headBias, softcap: softcap)
    case .own(let linear): LanguageHead(weight: linear.weight, bias: linear.bias ?? headBias, softcap: softcap)
    case .none:
      throw TensorError(
        "model", expected: "a model with a head that predicts tokens", got: "one that ends with hidden states",
        advice: "use the checkpoint of the whole language model, or `fermata embed`")
    }
  }

  public func stateBytes(batch: Int, length: Int) -> Int {
    blocks.reduce(0) { $0 + $1.stateBytes(batch: batch, length: length, dtype: computeType) }
  }
}
