import FermataTensors

/// A mixer whose state is a matrix memory: projections, a rule by which tokens write, and the laws that follow.
public protocol MatrixMixer: RegisteredMixer, MergingMixer {
  associatedtype Rule: MemoryRule
  var memory: MatrixMemory { get }
  var projections: MemoryProjections { get }
  var update: Rule { get }

  /// The memory that settings ask for.
  static func memory(width: Int, options: Options) throws -> MatrixMemory

  /// The rule alone, for one of a mixture's memories.
  /// - Throws: `ConfigurationError` for settings that ask for more than a rule, such as a convolution.
  static func rule(_ memory: MatrixMemory, width: Int, options: Options, random: inout RandomSource) throws -> Rule

  /// What a piece's tokens ask and write. It is a sequence, not a tree.
  func tokens(_ piece: Piece) throws -> MatrixTokens

  /// Outputs (batch, length, width) from what the tokens read (batch, length, heads, valueWidth).
  func outputs(_ read: Tensor, _ tokens: MatrixTokens) throws -> Tensor
}

extension MatrixMixer {
  public func tokens(_ piece: Piece) throws -> MatrixTokens { try projections.tokens(piece, rule: update) }

  public func outputs(_ read: Tensor, _ tokens: MatrixTokens) throws -> Tensor {
    try projections.outputs(read, gate: tokens.outputGate)
  }

  public var laws: Laws { memory.laws }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { memory.stateBytes(batch: batch) }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: [MatrixMemory.name: try memory.zeros(batch: batch)])
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let piece = try piece.sequence(for: Self.name)
    let tokens = try tokens(piece)
    var next = state
    let outputs = try outputs(memory.read(tokens, piece.layout, state: &next), tokens)
    state = next
    return outputs
  }

  public func summarise(_ piece: Piece) throws -> Summary {
    let piece = try piece.sequence(for: Self.name)
    return try memory.summarise(tokens(piece), piece.layout)
  }
  public func merged(_ left: Summary, _ right: Summary) throws -> Summary { try memory.merged(left, right) }
  public func advance(_ state: inout MixerState, by summary: Summary) throws { try memory.advance(&state, by: summary) }
}
