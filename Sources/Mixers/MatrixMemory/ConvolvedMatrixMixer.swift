import FermataLayers
import FermataTensors

/// A matrix mixer whose queries, keys and values may go through a short convolution first. Its tail is state beside the matrix:
/// "convolution" (batch, K − 1, channels) f32.
///
/// The merge law survives the convolution: a summary also holds the stretch's first and last K − 1 tokens, its halo. What the
/// first ones write is found when it is known what stood before them.
public protocol ConvolvedMatrixMixer: MatrixMixer {}

extension ConvolvedMatrixMixer {
  /// Tokens whose convolution needs others before them: K − 1.
  private var halo: Int { (projections.convolution?.width ?? 1) - 1 }

  public func tokens(_ piece: Piece) throws -> MatrixTokens {
    var tail = try projections.convolution?.initialTail(batch: piece.batch)
    return try projections.tokens(piece, rule: update, tail: &tail)
  }

  // MARK: A state with a tail

  private static var tailName: String { "convolution" }

  private func tail(_ state: MixerState) throws -> Tensor? {
    projections.convolution == nil ? nil : try state.tensor(Self.tailName)
  }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    memory.stateBytes(batch: batch) + (projections.convolution?.tailBytes(batch: batch) ?? 0)
  }

  public func initialState(batch: Int) throws -> MixerState {
    var state = MixerState(tensors: [MatrixMemory.name: try memory.zeros(batch: batch)])
    state[Self.tailName] = try projections.convolution?.initialTail(batch: batch)
    return state
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let piece = try piece.sequence(for: Self.name)
    var (next, tail) = (state, try tail(state))
    let tokens = try projections.tokens(piece, rule: update, tail: &tail)
    let outputs = try outputs(memory.read(tokens, piece.layout, state: &next), tokens)
    next[Self.tailName] = tail
    state = next
    return outputs
  }

  // MARK: Merge law

  public var laws: Laws {
    guard halo > 0, case .associative(let cost) = memory.laws.merge else { return memory.laws }
    return Laws(cut: .causal, merge: .associative(cost: "\(cost), and the first and last \(halo) tokens"))
  }

  public func summarise(_ piece: Piece) throws -> Summary {
    let piece = try piece.sequence(for: Self.name)
    if halo == 0 { return try memory.summarise(tokens(piece), piece.layout) }
    try require(
      piece.layout.resets == nil && piece.layout.valid == nil, "summarise",
      expected: "a stretch of one document without padding", got: "resets or padding",
      advice: "summarise each document's valid tokens by themselves")
    let (length, held) = (piece.length, min(halo, piece.length))
    var summary = try stretch(piece)
    summary.length = length
    summary.tensors["head"] = try piece.values.slice(0..<held, axis: 1)
    summary.tensors["tail"] = try piece.values.slice(length - held..<length, axis: 1)
    return summary
  }

  /// What tokens do that have K − 1 others before them in the piece.
  private func stretch(_ piece: Piece) throws -> Summary {
    let held = min(halo, piece.length)
    let layout = Layout(batch: piece.batch, length: piece.length - held)
    return try memory.summarise(tokens(piece).slice(held..<piece.length), layout)
  }

  public func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    if halo == 0 { return try memory.merged(left, right) }
    func joined(_ first: String, _ second: String) throws -> Tensor {
      try Tensor.concatenated([left.tensor(first), right.tensor(second)], axis: 1)
    }
    let between = try stretch(Piece(joined("tail", "head")))
    var summary = try memory.merged(memory.merged(left, between), right)
    let (head, tail) = (try joined("head", "head"), try joined("tail", "tail"))
    summary.length = left.length + right.length
    summary.tensors["head"] = try head.slice(0..<min(halo, head.shape[1]), axis: 1)
    summary.tensors["tail"] = try tail.slice(max(0, tail.shape[1] - halo)..<tail.shape[1], axis: 1)
    return summary
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    guard var before = try tail(state), var after = try tail(state) else {
      return try memory.advance(&state, by: summary)
    }
    func tokens(_ name: String, after tail: inout Tensor) throws -> (MatrixTokens, Layout) {
      var moved: Tensor? = tail
      let piece = try Piece(summary.tensor(name))
      let tokens = try projections.tokens(piece, rule: update, tail: &moved)
      tail = moved ?? tail
      return (tokens, piece.layout)
    }
    var next = state
    let (head, layout) = try tokens("head", after: &before)
    try memory.advance(&next, by: memory.summarise(head, layout))
    var rest = summary
    rest.length -= layout.length
    try memory.advance(&next, by: rest)
    _ = try tokens("tail", after: &after)
    next[Self.tailName] = after
    state = next
  }
}
