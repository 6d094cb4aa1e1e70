import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors

/// A model that a folder can hold, of whatever family.
public protocol PretrainedModel: Module {
  /// Type of activations: f32 is exact, bf16 faster where the processor has it.
  var computeType: DType { get set }
  /// The configuration as config.json says it.
  var document: JSONValue { get }
  /// What the model makes of whole sequences.
  /// - Throws: `TensorError` for inputs that it cannot read.
  func outputs(_ inputs: ModelInputs) throws -> ModelOutput
  /// The last hidden states (batch, length, width), F32, of the tokens: of an encoder-decoder, its encoder's.
  func hiddenStates(_ inputs: ModelInputs) throws -> Tensor
}

/// Whole sequences for a model.
public struct ModelInputs: Sendable {
  /// I32 (batch, length)
  public var tokens: Tensor
  /// U8 (batch, length): 0 for padding. nil: all valid.
  public var valid: Tensor?
  /// I32 (batch, length): kinds of tokens, for models that have them. nil: all of kind 0.
  public var types: Tensor?
  /// I32 (batch, decoder length): what an encoder-decoder's decoder reads.
  public var decoderTokens: Tensor?

  /// - Throws: `TensorError` for tensors of other shapes or types than theirs.
  public init(tokens: Tensor, valid: Tensor? = nil, types: Tensor? = nil, decoderTokens: Tensor? = nil) throws {
    try require(
      tokens.rank == 2 && tokens.dtype == .int32, "inputs", expected: "I32 tokens (batch, length)", got: "\(tokens)")
    (self.tokens, self.valid, self.types, self.decoderTokens) = (tokens, valid, types, decoderTokens)
    for (name, tensor, dtype) in [("attention_mask", valid, DType.uint8), ("token_type_ids", types, .int32)] {
      guard let tensor else { continue }
      try require(
        tensor.shape == tokens.shape && tensor.dtype == dtype, "inputs",
        expected: "\(name) of shape \(tokens.shape), as the tokens", got: "\(tensor)")
    }
    if let decoderTokens {
      try require(
        decoderTokens.rank == 2 && decoderTokens.dtype == .int32 && decoderTokens.shape[0] == tokens.shape[0], "inputs",
        expected: "I32 decoder tokens (\(tokens.shape[0]), length)", got: "\(decoderTokens)")
    }
  }
}

/// What a model makes of whole sequences.
public struct ModelOutput: Sendable {
  /// `logits` (batch, length, vocabulary) or `last_hidden_state` (batch, length, width).
  public var name: String
  /// F32.
  public var values: Tensor

  /// An output under its name.
  public init(name: String, values: Tensor) {
    self.name = name
    self.values = values
  }
}

/// A model that reads a sequence from left to right and predicts what comes next: all that inference needs to know of one.
public protocol CausalModel: PretrainedModel {
  /// Tokens that it knows: ids are below this number.
  var vocabularySize: Int { get }
  /// Features of a hidden state.
  var width: Int { get }
  /// Where a sequence may be cut.
  var cut: CutScope { get }
  /// The state before the first token of so many sequences.
  /// - Throws: `TensorError` for a batch below 1.
  func initialState(batch: Int) throws -> ModelState
  /// Hidden states (batch, length, width), after the last norm, for tokens (batch, length), I32.
  /// - Throws: leaves the state as it was.
  func hidden(_ tokens: Tensor, layout: Layout?, state: inout ModelState) throws -> Tensor
  /// What makes logits of hidden states.
  /// - Throws: `TensorError` for a model that has none.
  func languageHead() throws -> LanguageHead
  /// Bytes that the states take after so many tokens.
  func stateBytes(batch: Int, length: Int) -> Int
  /// The most tokens of a sequence that it can read; nil: any number.
  var maximumLength: Int? { get }
  /// Whether something in it depends on the length of the whole sequence, which must then be fixed before the first token.
  var dependsOnLength: Bool { get }
  /// Fixes the length of the sequences to come, for models that depend on it; nothing changes for others.
  mutating func fix(length: Int) throws
}

extension CausalModel {
  /// Hidden states of tokens that follow each other, all of them valid.
  public func hidden(_ tokens: Tensor, state: inout ModelState) throws -> Tensor {
    try hidden(tokens, layout: nil, state: &state)
  }

  /// Logits of whole sequences, or hidden states of a model without a head.
  public func outputs(_ inputs: ModelInputs) throws -> ModelOutput {
    let hidden = try readWhole(inputs)
    guard let head = try? languageHead() else {
      return ModelOutput(name: "last_hidden_state", values: try hidden.cast(to: .float32))
    }
    return ModelOutput(name: "logits", values: try head.logits(hidden))
  }

  public func hiddenStates(_ inputs: ModelInputs) throws -> Tensor { try readWhole(inputs).cast(to: .float32) }

  /// Positions count padding as well, as `transformers` does when it is given none.
  private func readWhole(_ inputs: ModelInputs) throws -> Tensor {
    let (batch, length) = (inputs.tokens.shape[0], inputs.tokens.shape[1])
    var model = self
    try model.fix(length: max(length, 1))
    var layout = Layout(batch: batch, length: length, valid: inputs.valid)
    if inputs.valid != nil {
      layout.positions = try Tensor.range(length).reshaped([1, length]).broadcast(to: [batch, length]).contiguous()
    }
    var state = try model.initialState(batch: batch)
    return try model.hidden(inputs.tokens, layout: layout, state: &state)
  }
}

/// What makes logits of hidden states: c · tanh((h Wᵀ + b) / c), where bias b and cap c may be absent.
public struct LanguageHead: Sendable {
  /// (vocabulary, width)
  public var weight: Tensor
  /// (vocabulary)
  public var bias: Tensor?
  /// The largest logit, approached by tanh (Gemma 2); nil: none.
  public var softcap: Float?

  /// A head of these parts.
  public init(weight: Tensor, bias: Tensor? = nil, softcap: Float? = nil) {
    self.weight = weight
    self.bias = bias
    self.softcap = softcap
  }

  /// hidden (…, width) to f32 logits (…, vocabulary), without history.
  public func logits(_ hidden: Tensor) throws -> Tensor {
    guard let width = hidden.shape.last, width == weight.shape.last, width > 0 else {
      throw TensorError("head", expected: "hidden states (…, \(weight.shape.last ?? 0))", got: "\(hidden)")
    }
    let rows = try hidden.detached.contiguous().reshaped([hidden.count / width, width])
    let matrix = try weight.detached.cast(to: rows.dtype)
    var y = try product(rows, matrix.transposed(0, 1), output: .float32)
    if let bias { y = try y + bias.cast(to: .float32) }
    if let softcap { y = try (y / softcap).tanh() * softcap }
    return try y.reshaped(Array(hidden.shape.dropLast()) + [weight.shape[0]])
  }

  /// Losses in nats, f32 (rows), of hidden states (rows, width) whose next tokens are `targets`. Logits exist only for a
  /// block of rows at a time.
  public func losses(_ hidden: Tensor, targets: [Int]) throws -> [Float] {
    let vocabulary = weight.shape[0]
    try require(
      targets.allSatisfy { (0..<vocabulary).contains($0) } && hidden.shape.first == targets.count, "score",
      expected: "\(hidden.shape.first ?? 0) tokens in 0..<\(vocabulary)",
      got: "\(targets.count) tokens up to \(targets.max() ?? 0)")
    if bias == nil && softcap == nil {
      let targets = try Tensor(targets.map { Int32($0) }, shape: [targets.count])
      return try crossEntropy(hidden: hidden.detached, weight: weight.detached, targets: targets, scale: 1).losses
        .floats()
    }
    let block = max(1, (2 << 20) / max(vocabulary, 1))
    return try stride(from: 0, to: targets.count, by: block).flatMap { start in
      let range = start..<min(start + block, targets.count)
      let scores = try logits(hidden.slice(range, axis: 0)).logSoftmax().floats()
      return range.map { -scores[($0 - start) * vocabulary + targets[$0]] }
    }
  }
}

extension LanguageModel: CausalModel {
  public var document: JSONValue { configuration.json }
  public var vocabularySize: Int { configuration.vocabularySize }
  public var width: Int { configuration.width }
  public func languageHead() -> LanguageHead { LanguageHead(weight: headWeight) }
  public var maximumLength: Int? { nil }
  public var dependsOnLength: Bool { false }
  public func fix(length: Int) {}
}
