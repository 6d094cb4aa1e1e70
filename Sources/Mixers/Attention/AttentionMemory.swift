import FermataTensors

/// The keys and values that attention carries between pieces, and the mask over them and a new piece.
///
/// Entries (count, batch, keyValueHeads, width) stand in order of position. With a window, those that no later token can see
/// go at the end of each piece; what stays depends on the sequence alone, never on where it was cut.
/// Once a piece had document starts or padding, rows differ, and positions are carried for each entry (`RaggedPositions`).
struct AttentionMemory {
  private var state: MixerState
  private let layout: Layout
  private let window: Int
  private let sinks: Int
  private var ragged: RaggedPositions?
  /// Rotary positions (batch or 1, length), I32.
  let positions: Tensor
  /// Sequence index of the piece's first token.
  private let start: Int
  /// Entries carried from before the piece.
  private let carried: Int

  init(_ state: MixerState, layout: Layout, window: Int, sinks: Int) throws {
    try require(
      layout.parents == nil, "softmax attention", expected: "a sequence", got: "a tree of drafts",
      advice: "use branches(_:state:)")
    carried = state["keys"]?.shape.first ?? 0
    start = state.position
    let expected = window > 0 ? min(start, window - 1 + sinks) : start
    ragged = try RaggedPositions(
      state, layout: layout, carried: Self.positions(of: carried, before: start, sinks: sinks))
    try require(
      (start == 0 || state["keys"] != nil) && (ragged != nil || carried == expected), "softmax attention",
      expected: "a state of \(expected) keys at position \(start)", got: "\(carried) of \(state.names)",
      advice: "the state belongs to another mixer or is damaged")
    self.state = state
    self.layout = layout
    self.window = window
    self.sinks = sinks
    positions =
      try layout.positions ?? ragged?.rotaryPositions(from: start)
      ?? Tensor.range(layout.length, from: Double(start)).reshaped([1, layout.length])
  }

  /// Adds a piece's keys and values (length, batch, keyValueHeads, width).
  mutating func append(keys: Tensor, values: Tensor) throws {
    for (name, rows) in [("keys", keys), ("values", values)] {
      guard var entries = state[name] else {
        state[name] = try rows.contiguous()
        continue
      }
      try require(
        entries.rank == 4 && entries.shape[0] == carried && entries.shape.dropFirst() == rows.shape.dropFirst()
          && entries.dtype == rows.dtype, "softmax attention",
        expected: "a state with \(name) of \(rows.dtype) \([carried] + rows.shape.dropFirst())", got: "\(entries)",
        advice: "the state was made with another model, batch or compute type")
      state[name] = nil
      try entries.append(rows)
      state[name] = entries
    }
  }

  /// All entries a query of the piece may see: (batch, entries, keyValueHeads, width).
  func keysAndValues() throws -> (Tensor, Tensor) {
    (try state.tensor("keys").transposed(0, 1), try state.tensor("values").transposed(0, 1))
  }

  func mask() throws -> AttentionMask {
    var mask = AttentionMask(isCausal: true, window: window, sinks: sinks)
    if let ragged {
      try ragged.describe(&mask)
    } else if sinks > 0 {
      let old = Self.positions(of: carried, before: start, sinks: sinks)
      let new = (start..<start + layout.length).map { Int32($0) }
      mask.keyPositions = try Tensor(old + new, shape: [1, old.count + new.count])
      mask.queryPositions = try Tensor(new, shape: [1, new.count])
    }
    return mask
  }

  /// For tokens at these distances after the state (a tree of drafts): rotary positions, and what they see of the entries
  /// carried and of each other, but for which of each other are ancestors. Only for a memory made with no piece.
  func tree(depths: [Int]) throws -> (rotary: Tensor, carried: AttentionMask, own: AttentionMask) {
    let plain = AttentionMask(isCausal: true, window: window, sinks: sinks)
    var (past, own) = (plain, plain)
    let standing = depths.map { Int32(start + $0) }
    let nodes = try ragged?.following(depths) ?? Tensor(standing, shape: [1, depths.count])
    let old = Self.positions(of: carried, before: start, sinks: sinks)
    past.keyPositions = try Tensor(old, shape: [1, carried])
    try ragged?.describe(&past)
    if past.keyDocuments != nil { past.queryDocuments = try Tensor.zeros([1, depths.count], .int32) }
    past.queryPositions = nodes
    own.keyPositions = nodes
    own.queryPositions = nodes
    let rotary = try ragged?.rotaryPositions(standing) ?? Tensor(standing, shape: [1, depths.count])
    return (rotary, past, own)
  }

  /// The state after the piece.
  mutating func finish() throws -> MixerState {
    state.position = start + layout.length
    let survivors = ragged?.survivors(window: window, sinks: sinks)
    for name in ["keys", "values"] {
      let entries = try state.tensor(name)
      state[name] = try survivors?.of(entries) ?? trimmed(entries)
    }
    if let survivors { try ragged?.store(survivors, in: &state) }
    return state
  }

  /// What later tokens may still see of entries in order of position.
  private func trimmed(_ entries: Tensor) throws -> Tensor {
    guard window > 0, entries.shape[0] > window - 1 + sinks else { return entries }
    let recent = try entries.keepingLast(window - 1)
    return sinks == 0 ? recent : try Tensor.concatenated([entries.slice(0..<sinks, axis: 0), recent], axis: 0)
  }

  /// Positions of the entries of a state without documents or padding: the sinks, when others are gone, and the latest.
  private static func positions(of count: Int, before end: Int, sinks: Int) -> [Int32] {
    let first = min(sinks, count)
    return (0..<count).map { Int32($0 < first ? $0 : end - count + $0) }
  }
}
