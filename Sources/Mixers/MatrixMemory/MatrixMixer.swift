import FermataTensors

/// A mixer whose state is a matrix memory: it says what its tokens ask and write, and what it makes of what they read.
public protocol MatrixMixer: RegisteredMixer, MergingMixer {
  var memory: MatrixMemory { get }

  /// What a piece's tokens ask and write. It is a sequence, not a tree.
  func tokens(_ piece: Piece) throws -> MatrixTokens

  /// Outputs (batch, length, width) from what the tokens read (batch, length, heads, valueWidth).
  func outputs(_ read: Tensor, _ tokens: MatrixTokens) throws -> Tensor
}

extension MatrixMixer {
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
