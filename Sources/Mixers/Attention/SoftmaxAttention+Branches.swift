import FermataLayers
import FermataTensors

extension SoftmaxAttention {
  /// A tree of drafts in one step: its tokens read the cache as it lies and their ancestors among themselves, and the two
  /// outputs merge by their statistics. Nothing is copied or appended until a branch is committed.
  public func branches(_ piece: Piece, state: MixerState) throws -> Branches {
    guard let parents = piece.layout.parents, !parents.isEmpty else {
      throw TensorError("branches", expected: "a piece with parents", got: "a sequence")
    }
    try require(
      piece.layout.resets == nil && piece.layout.valid == nil && piece.layout.positions == nil, "branches",
      expected: "a tree in the open document, at its own positions", got: "resets, padding or positions")
    let depths = parents.indices.reduce(into: [Int]()) { depths, token in
      depths.append(parents[token] < 0 ? 0 : depths[parents[token]] + 1)
    }
    let (batch, count) = (piece.batch, piece.length)
    let memory = try AttentionMemory(state, layout: Layout(batch: batch, length: 0), window: window, sinks: sinks)
    var (rotary, pastMask, ownMask) = try memory.tree(depths: depths)
    let (query, key, value) = try projections(piece, positions: rotary)
    ownMask.visible = try Tensor(Self.ancestry(parents), shape: [1, count, count])
    var mixed = try attentionWithStatistics(query, key, value, mask: ownMask)
    if state.position > 0 {
      let (keys, values) = try memory.keysAndValues()
      mixed = try Self.merged(mixed, attentionWithStatistics(query, keys, values, mask: pastMask))
    }
    let y = try output(mixed.output.reshaped([batch, count, heads * headWidth]))
    let rows = (try key.transposed(0, 1), try value.transposed(0, 1))
    return Branches(outputs: y, tokens: count) { token in
      try committed(Self.path(to: token, parents), keys: rows.0, values: rows.1, state: state, batch: batch)
    }
  }

  /// Outputs over two sets of keys as one: weights e^l and e^m, so the first has the share σ(l - m).
  private static func merged(
    _ a: (output: Tensor, logSumExp: Tensor), _ b: (output: Tensor, logSumExp: Tensor)
  ) throws -> (output: Tensor, logSumExp: Tensor) {
    let share = try (a.logSumExp - b.logSumExp).sigmoid().transposed(1, 2).expanded(at: 3)
    let (x, y) = (try a.output.cast(to: .float32), try b.output.cast(to: .float32))
    return (try (x * share + y * (1 - share)).cast(to: a.output.dtype), a.logSumExp)
  }

  /// The state after the tokens of a path, whose keys and values (tokens, batch, keyValueHeads, headWidth) stand in the tree's.
  private func committed(_ path: [Int], keys: Tensor, values: Tensor, state: MixerState, batch: Int) throws
    -> MixerState
  {
    func rows(_ x: Tensor) throws -> Tensor {
      try Tensor.concatenated(path.map { try x.slice($0..<$0 + 1, axis: 0) }, axis: 0)
    }
    let layout = Layout(batch: batch, length: path.count)
    var memory = try AttentionMemory(state, layout: layout, window: window, sinks: sinks)
    try memory.append(keys: rows(keys), values: rows(values))
    return try memory.finish()
  }

  private static func path(to token: Int, _ parents: [Int]) -> [Int] {
    var path = [token]
    while let last = path.last, parents[last] >= 0 { path.append(parents[last]) }
    return path.reversed()
  }

  /// Bytes (tokens, tokens): 1 where the column is the row or an ancestor of it.
  private static func ancestry(_ parents: [Int]) -> [UInt8] {
    let count = parents.count
    var bytes = [UInt8](repeating: 0, count: count * count)
    for token in 0..<count { for other in path(to: token, parents) { bytes[token * count + other] = 1 } }
    return bytes
  }
}
