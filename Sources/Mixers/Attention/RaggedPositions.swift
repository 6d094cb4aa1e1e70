import FermataTensors

/// Where each row's entries stand once documents or padding have made the rows of a batch differ.
///
/// A token's position is its index among the valid tokens of its document, so that a document packed behind others, or beside
/// padding, has the window and the sinks that it would have alone.
/// State: entry_positions I32 (batch, entries), -1 for entries that no later token sees; next_positions I32 (batch), the
/// position of the next token of the open document; padding I64 (batch), the number of padding tokens so far.
/// Stored positions count as if what the window evicted behind the sinks had never been: distances between what is left
/// are the same, and numbers stay below the number of entries, however long the document.
struct RaggedPositions {
  fileprivate struct Row {
    var positions: [Int32]
    var documents: [Int32]
    var next: Int32
    /// Padding tokens before the piece, and after each of its tokens.
    var padding: [Int64]
    var document: Int32 = 0
  }
  private var rows: [Row]
  private let carried: Int
  private let length: Int

  /// nil while rows are alike: no document start and no padding, before or now.
  init?(_ state: MixerState, layout: Layout, carried: Int) throws {
    let isStored = ["entry_positions", "next_positions", "padding"].contains { state[$0] != nil }
    if !isStored && layout.resets == nil && layout.valid == nil { return nil }
    self.carried = carried
    length = layout.length
    rows = []
    let batch = layout.batch
    let entries = isStored ? try Self.stored("entry_positions", state, [batch, carried], Int32.self) : nil
    let next = isStored ? try Self.stored("next_positions", state, [batch], Int32.self) : nil
    let padding = isStored ? try Self.stored("padding", state, [batch], Int64.self) : nil
    let resets = try layout.resets?.values(as: UInt8.self)
    let valid = try layout.valid?.values(as: UInt8.self)
    for index in 0..<batch {
      let old = entries.map { Array($0[index * carried..<(index + 1) * carried]) } ?? (0..<Int32(carried)).map { $0 }
      var row = Row(
        positions: old, documents: old.map { $0 < 0 ? -1 : 0 }, next: next?[index] ?? Int32(carried),
        padding: [padding?[index] ?? 0])
      try require(
        (0...carried).contains(Int(row.next)) && old.allSatisfy { (-1..<max(row.next, 0)).contains($0) }
          && (0...state.position).contains(Int(row.padding[0])), "softmax attention",
        expected: "positions among \(carried) entries and at most \(state.position) padding tokens",
        got: "others in row \(index)", advice: "the state is damaged")
      for token in index * length..<(index + 1) * length {
        row.step(starts: resets.map { $0[token] != 0 } ?? false, isValid: valid.map { $0[token] != 0 } ?? true)
      }
      rows.append(row)
    }
  }

  private static func stored<Element: TensorElement>(
    _ name: String, _ state: MixerState, _ shape: [Int], _ type: Element.Type
  ) throws -> [Element] {
    let tensor = try state.tensor(name)
    try require(
      tensor.shape == shape && tensor.dtype == Element.dtype, "softmax attention",
      expected: "a state with \(Element.dtype) \(name) of shape \(shape)", got: "\(tensor)",
      advice: "the state was made with another batch or is damaged")
    return try tensor.values()
  }

  /// Positions for turning queries and keys: the sequence index less the padding before it. nil without padding: turning
  /// only knows distances, so rows may share the plain positions.
  func rotaryPositions(from start: Int) throws -> Tensor? {
    guard rows.contains(where: { $0.padding.last != 0 }) else { return nil }
    let values = rows.flatMap { row in (0..<length).map { Int64(start + $0) - row.padding[$0] } }
    return try Tensor(values, shape: [rows.count, length])
  }

  /// The same for tokens that follow the piece at these sequence indices.
  func rotaryPositions(_ standing: [Int64]) throws -> Tensor {
    try Tensor(
      rows.flatMap { row in standing.map { $0 - (row.padding.last ?? 0) } }, shape: [rows.count, standing.count])
  }

  /// Positions of tokens so many after the piece, in each row's open document.
  func following(_ depths: [Int]) throws -> Tensor {
    try Tensor(rows.flatMap { row in depths.map { row.next + Int32($0) } }, shape: [rows.count, depths.count])
  }

  func describe(_ mask: inout AttentionMask) throws {
    func tensor(_ values: (Row) -> [Int32], from first: Int) throws -> Tensor {
      try Tensor(rows.flatMap { values($0)[first...] }, shape: [rows.count, carried + length - first])
    }
    mask.keyPositions = try tensor({ $0.positions }, from: 0)
    mask.keyDocuments = try tensor({ $0.documents }, from: 0)
    mask.queryPositions = try tensor({ $0.positions }, from: carried)
    mask.queryDocuments = try tensor({ $0.documents }, from: carried)
  }

  /// Slots and positions of the entries that stay, row by row: without a window all from the first that some row needs; with
  /// one exactly those needed, behind as many dead ones (-1) as the longest row has more.
  struct Survivors {
    fileprivate var rows: [[(slot: Int, position: Int32)]]
    private var count: Int { rows.first?.count ?? 0 }

    /// The surviving entries of (entries, batch, heads, width).
    func of(_ entries: Tensor) throws -> Tensor {
      let latest = entries.shape[0] - count..<entries.shape[0]
      if rows.allSatisfy({ $0.map(\.slot) == Array(latest) }) { return try entries.keepingLast(count) }
      let indices = (0..<count).flatMap { index in
        rows.enumerated().map { Int32($1[index].slot * rows.count + $0) }
      }
      let inner = Array(entries.shape.dropFirst(2))
      let table = try entries.reshaped([entries.shape[0] * rows.count, inner.reduce(1, *)])
      return try table.rows(at: Tensor(indices, shape: [count, rows.count])).reshaped([count, rows.count] + inner)
    }

    func positions() throws -> Tensor {
      try Tensor(rows.flatMap { $0.map(\.position) }, shape: [rows.count, count])
    }
  }

  func survivors(window: Int, sinks: Int) -> Survivors {
    let all = rows.map { $0.entries(window: window, sinks: sinks) }
    guard window > 0 else {
      let first = all.map { row in row.firstIndex(where: { $0.position >= 0 }) ?? carried + length }.min() ?? 0
      return Survivors(rows: all.map { Array($0[first...]) })
    }
    let live = all.map { $0.filter { $0.position >= 0 } }
    let most = live.map(\.count).max() ?? 0
    return Survivors(rows: live.map { Array(repeating: (0, -1), count: most - $0.count) + $0 })
  }

  func store(_ survivors: Survivors, window: Int, sinks: Int, in state: inout MixerState) throws {
    state["entry_positions"] = try survivors.positions()
    state["next_positions"] = try Tensor(
      rows.map { $0.next - $0.evicted(window: window, sinks: sinks) }, shape: [rows.count])
    state["padding"] = try Tensor(rows.map { $0.padding.last ?? 0 }, shape: [rows.count])
  }
}

extension RaggedPositions.Row {
  fileprivate mutating func step(starts: Bool, isValid: Bool) {
    if starts {
      document += 1
      next = 0
    }
    positions.append(next)
    documents.append(isValid ? document : -1)
    padding.append((padding.last ?? 0) + (isValid ? 0 : 1))
    if isValid { next += 1 }
  }

  /// How many tokens of the open document the window has left behind the sinks.
  fileprivate func evicted(window: Int, sinks: Int) -> Int32 {
    window > 0 ? next - Int32(min(Int(next), window - 1 + sinks)) : 0
  }

  /// Every entry with the position it is stored with, or -1 when no later token can see it.
  fileprivate func entries(window: Int, sinks: Int) -> [(slot: Int, position: Int32)] {
    let gap = evicted(window: window, sinks: sinks)
    return positions.indices.map { slot in
      let position = positions[slot]
      let isNear = window == 0 || position < sinks || Int(position) > Int(next) - window
      guard documents[slot] == document && isNear else { return (slot, -1) }
      return (slot, position < sinks ? position : position - gap)
    }
  }
}
