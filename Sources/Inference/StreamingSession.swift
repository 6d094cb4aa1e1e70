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
  /// The model that reads.
  public let model: any CausalModel
  /// What the model keeps of all that it has read.
  public private(set) var state: ModelState
  /// Logits for the token after the last one read; nil before the first.
  public private(set) var logits: [Float]?
  /// Tokens that a prompt is read at a time.
  public let pieceLength: Int
  /// The most tokens of the whole sequence: what the model can take, or less; nil: no end.
  public private(set) var maximumLength: Int?
  private let head: LanguageHead

  /// A session at the beginning of a sequence, or going on from a saved state, with the logits of the token after it where
  /// they were saved.
  public init(
    _ model: any CausalModel, state: ModelState? = nil, logits: [Float]? = nil, pieceLength: Int = 512
  ) throws {
    try require(
      model.cut == .causal, "streaming", expected: "a model that may be cut anywhere",
      got: "scope '\(model.cut.rawValue)'",
      advice: "its mixers read the whole sequence at once; use a causal one")
    try require(pieceLength > 0, "streaming", expected: "a piece length above 0", got: "\(pieceLength)")
    // bf16 activations over f32 weights would round every matrix again for every token.
    self.model = model.computeType == .float32 ? model : try model.converted(to: model.computeType)
    head = try self.model.languageHead()
    self.state = try state ?? model.initialState(batch: 1)
    self.pieceLength = pieceLength
    self.logits = logits
    maximumLength = self.model.maximumLength
  }

  /// Lets the sequence become no longer than so many tokens; nil: as long as the model can take.
  public mutating func limitLength(to most: Int?) {
    maximumLength = [model.maximumLength, most].compactMap { $0 }.min()
  }

  /// Tokens read so far.
  public var position: Int { state.position }

  /// Reads tokens, in pieces.
  /// - Throws: `TensorError`, before anything is read, for more tokens than the sequence may have.
  public mutating func read(_ tokens: [Int]) throws {
    try requireRoom(for: tokens.count)
    for start in stride(from: 0, to: tokens.count, by: pieceLength) {
      let piece = Array(tokens[start..<min(start + pieceLength, tokens.count)])
      let x = try model.hidden(Self.tensor(piece), state: &state)
      logits = try head.logits(x.slice(piece.count - 1..<piece.count, axis: 1)).floats()
    }
  }

  /// Reads tokens and returns, for each, the negative logarithm (in nats) of the probability the model gave it after all
  /// that came before; nil for the first one of a session that has read nothing.
  public mutating func score(_ tokens: [Int]) throws -> [Float?] {
    try requireRoom(for: tokens.count)
    var result: [Float?] = []
    for start in stride(from: 0, to: tokens.count, by: pieceLength) {
      let piece = Array(tokens[start..<min(start + pieceLength, tokens.count)])
      result.append(try logits.map { try Self.loss($0, of: piece[0]) })
      let x = try model.hidden(Self.tensor(piece), state: &state)
      let rows = try x.reshaped([piece.count, model.width])
      if piece.count > 1 {
        result += try head.losses(rows.slice(0..<piece.count - 1, axis: 0), targets: Array(piece.dropFirst()))
      }
      logits = try head.logits(rows.slice(piece.count - 1..<piece.count, axis: 0)).floats()
    }
    return result
  }

  private func requireRoom(for count: Int) throws {
    guard let most = maximumLength else { return }
    try require(
      count <= most - min(position, most), "streaming",
      expected:
        "at most \(most) tokens, which \(most == model.maximumLength ? "this model can take" : "is the length given")",
      got: "\(position) read and \(count) more", advice: "give a shorter text")
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
