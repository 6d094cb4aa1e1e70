import FermataLayers
import FermataTensors
import RealModule

/// Retention (RetNet, Sun et al. 2023): linear attention whose queries and keys turn with position, as rotary's do, and whose heads
/// each forget at their own fixed rate.
///
///     S_t = γ_h S_{t-1} + k̂_tᵀ v_t,   o_t = q̂_t S_t / √keyWidth,   y = W_o (norm(o) · silu(W_r x))
///
/// γ_h = 1 − 2^{−5−h} for h in 0..<heads; q̂, k̂ (batch, length, heads, keyWidth) are turned by angles position · base^{−2i/keyWidth}; values have
/// `expand_v` (2) times the width; the norm (root mean square) is for each head.
///
/// State: (batch, heads, keyWidth, valueWidth) f32, and 8 bytes that count tokens: bytes = batch · (4 · expand_v · width · keyWidth + 8).
/// Cost per token: 5 · expand_v · width · keyWidth. Merge: a decay and a matrix, made for the position where they will stand.
/// Bad at: keeping what matters; what a head forgets depends on its number alone, in at most 2^{4+heads} tokens.
public struct RetNet: MatrixMixer {
  public struct Options: Codable, Sendable {
    public var heads: Int
    public var keyWidth: Int?
    public var expansion: Int?
    public var rotaryBase: Double?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case heads = "num_heads"
      case keyWidth = "key_dim"
      case expansion = "expand_v"
      case rotaryBase = "rope_theta"
    }
  }

  public static let name = "retnet"
  public static let card = MixerCard(
    family: .linearAttention, summary: "a matrix per head with a fixed decay for each and rotary positions (retention)",
    state: "4 · expand_v · width · keyWidth + 8", cost: "5 · expand_v · width · keyWidth",
    weakness: "keeping what matters: what a head forgets depends on its number alone", source: "Sun et al. 2023")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    #"{"num_heads": 2, "key_dim": 6}"#,
    #"{"num_heads": 1, "key_dim": 8, "expand_v": 1}"#,
  ]

  public var projections: MemoryProjections
  public let memory: MatrixMemory
  public let update: RetentionUpdate

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    memory = try Self.memory(width: width, options: options)
    update = try Self.rule(memory, width: width, options: options, random: &random)
    projections = try MemoryProjections(memory, width: width, isGated: true, random: &random)
  }

  public static func memory(width: Int, options: Options) throws -> MatrixMemory {
    try MatrixMemory(
      Self.name, width: width, heads: options.heads, keyWidth: options.keyWidth, expansion: options.expansion ?? 2)
  }

  public static func rule(
    _ memory: MatrixMemory, width: Int, options: Options, random: inout RandomSource
  ) throws -> RetentionUpdate {
    let base = options.rotaryBase ?? 10_000
    guard memory.keyWidth % 2 == 0, base > 1, base.isFinite else {
      throw ConfigurationError(
        "mixer '\(Self.name)'",
        "key_dim must be even and rope_theta above 1, got \(memory.keyWidth) and \(base)")
    }
    return try RetentionUpdate(memory, positions: RotaryPositions(width: memory.keyWidth, base: base))
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try projections.visitParameters(&visitor)
  }

  public func tokens(_ piece: Piece) throws -> MatrixTokens {
    try projections.tokens(piece, rule: update, positions: piece.absolutePositions(for: Self.name))
  }

  // MARK: A state that counts tokens

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    memory.stateBytes(batch: batch) + CountedPositions.stateBytes(batch: batch)
  }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: [
      MatrixMemory.name: try memory.zeros(batch: batch),
      CountedPositions.name: try CountedPositions.initial(batch: batch),
    ])
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let piece = try piece.sequence(for: Self.name)
    let counted = try CountedPositions(state, piece.layout)
    let tokens = try projections.tokens(piece, rule: update, positions: counted.positions)
    var next = state
    let outputs = try outputs(memory.read(tokens, piece.layout, state: &next), tokens)
    counted.advance(&next)
    state = next
    return outputs
  }

  public func summarise(_ piece: Piece) throws -> Summary {
    let piece = try piece.sequence(for: Self.name)
    try require(
      piece.layout.valid == nil, "summarise", expected: "a stretch without padding", got: "padding",
      advice: "summarise each row by itself")
    return try memory.summarise(tokens(piece), piece.layout)
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    var next = state
    try memory.advance(&next, by: summary)
    try CountedPositions.advance(&next, by: summary.length)
    state = next
  }
}

/// A fixed decay for each head, and queries and keys that turn with position: how retention writes.
public struct RetentionUpdate: MemoryRule {
  public let positions: any PositionScheme
  /// The logarithm of the decay (1, 1, heads).
  private let gate: Tensor

  init(_ memory: MatrixMemory, positions: any PositionScheme) throws {
    self.positions = positions
    let rates = (0..<memory.heads).map { Float(Double.log(onePlus: -Double.exp2(Double(-5 - $0)))) }
    gate = try Tensor(rates, shape: [1, 1, memory.heads])
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {}
  public var readsPositions: Bool { true }

  public func complete(_ tokens: inout MatrixTokens, x: Tensor, columns: Tensor, positions: Tensor?) throws {
    guard let positions else { throw TensorError(RetNet.name, expected: "positions", got: "none") }
    tokens.query = try self.positions.apply(tokens.query, positions: positions)
    tokens.key = try self.positions.apply(tokens.key, positions: positions)
    tokens.gate = try gate.broadcast(to: Array(tokens.query.shape.dropLast()))
  }
}
