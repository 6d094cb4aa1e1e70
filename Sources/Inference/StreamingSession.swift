import FermataLayers
import FermataMixers
import FermataModels
import FermataTensors
import RealModule

/// A model reading and writing one sequence: the model, the state of everything read so far, and the next token's logits.
///
/// A value: a copy is a fork that goes its own way. Memory is that of the state: constant for linear, recurrent and windowed
/// models, however long the sequence.
public struct StreamingSession: Sendable {
  public let model: LanguageModel
  public private(set) var state: ModelState
  /// Logits for the token after the last one read; nil before the first.
  public private(set) var logits: [Float]?
  /// Tokens that a prompt is read at a time.
  public let pieceLength: Int

  /// A session at the beginning of a sequence, or going on from a saved state.
  public init(_ model: LanguageModel, state: ModelState? = nil, pieceLength: Int = 512) throws {
    try require(
      model.cut == .causal, "streaming", expected: "a model that may be cut anywhere",
      got: "scope '\(model.cut.rawValue)'",
      advice: "its mixers read the whole sequence at once; use a causal one")
    try require(pieceLength > 0, "streaming", expected: "a piece length above 0", got: "\(pieceLength)")
    // bf16 activations over f32 weights would round every matrix again for every token.
    self.model = model.computeType == .float32 ? model : try model.converted(to: model.computeType)
    self.state = try state ?? model.initialState(batch: 1)
    self.pieceLength = pieceLength
  }

  /// Tokens read so far.
  public var position: Int { state.position }

  /// Reads tokens, in pieces.
  public mutating func read(_ tokens: [Int]) throws {
    for start in stride(from: 0, to: tokens.count, by: pieceLength) {
      let piece = Array(tokens[start..<min(start + pieceLength, tokens.count)])
      let x = try model.hidden(Self.tensor(piece), state: &state)
      let last = try x.slice(piece.count - 1..<piece.count, axis: 1).reshaped([1, model.configuration.width])
      logits = try linear(last, weight: model.headWeight).floats()
    }
  }

  /// Reads tokens and returns, for each, the negative logarithm (in nats) of the probability the model gave it after all
  /// that came before; nil for the first one of a session that has read nothing.
  public mutating func score(_ tokens: [Int]) throws -> [Float?] {
    var result: [Float?] = []
    for start in stride(from: 0, to: tokens.count, by: pieceLength) {
      let piece = Array(tokens[start..<min(start + pieceLength, tokens.count)])
      result.append(try logits.map { try Self.loss($0, of: piece[0]) })
      let x = try model.hidden(Self.tensor(piece), state: &state)
      let rows = try x.reshaped([piece.count, model.configuration.width])
      if piece.count > 1 {
        let inner = try crossEntropy(
          hidden: rows.slice(0..<piece.count - 1, axis: 0), weight: model.headWeight,
          targets: Tensor(piece.dropFirst().map { Int32($0) }, shape: [piece.count - 1]), scale: 1)
        result += try inner.losses.floats()
      }
      logits = try linear(rows.slice(piece.count - 1..<piece.count, axis: 0), weight: model.headWeight).floats()
    }
    return result
  }

  private static func tensor(_ tokens: [Int]) throws -> Tensor {
    try Tensor(tokens.map { Int32(clamping: $0) }, shape: [1, tokens.count])
  }

  private static func loss(_ logits: [Float], of token: Int) throws -> Float {
    try require(logits.indices.contains(token), "score", expected: "tokens in 0..<\(logits.count)", got: "\(token)")
    let top = logits.max() ?? 0
    let sum = logits.reduce(0) { $0 + Double(Float.exp($1 - top)) }
    return Float(Double.log(sum)) + top - logits[token]
  }
}
