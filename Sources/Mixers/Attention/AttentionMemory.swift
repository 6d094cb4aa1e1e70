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
  /// Rotary positions (batch or 1, length), I32 or I64.
  let positions: Tensor
  /// Sequence index of the piece's first token.
  private let start: Int
  /// Entries carried from before the piece.
  private let carried: Int

  /// The most entries of a row: positions among them fit the kernel's 32 bits. Sequences are not limited by it, as
  /// masks count from the first entry that is carried.
  private static let mostEntries = 1 << 30

  init(_ state: MixerState, layout: Layout, window: Int, sinks: Int) throws {
    try require(
      layout.parents == nil, "softmax attention", expected: "a sequence", got: "a tree of drafts",
      advice: "use branches(_:state:)")
    self.state = state
    self.layout = layout
    self.window = window
    self.sinks = sinks
    start = state.position
    _ = try state.position(after: layout.length)
    carried = try Self.entries(of: state, batch: layout.batch)
    try require(
      carried <= Self.mostEntries && layout.length <= Self.mostEntries - carried, "softmax attention",
      expected: "at most \(Self.mostEntries) entries", got: "\(carried) and \(layout.length) more",
      advice: "use a sliding_window")
    let expected = window > 0 ? min(start, window - 1 + sinks) : start
    let isRagged = state["entry_positions"] != nil
    try require(
      (start == 0 || state["keys"] != nil) && (isRagged ? carried <= expected : carried == expected),
      "softmax attention", expected: "a state of \(expected) keys at position \(start)",
      got: "\(carried) of \(state.names)", advice: "the state belongs to another mixer or is damaged")
    ragged = try RaggedPositions(state, layout: layout, carried: carried)
    positions = try layout.positions ?? ragged?.rotaryPositions(from: start) ?? Self.consecutive(start, layout.length)
  }

  /// How many entries the state carries, once their tensors are what they should be.
  private static func entries(of state: MixerState, batch: Int) throws -> Int {
    guard state["keys"] != nil || state["values"] != nil else { return 0 }
    let (keys, values) = (try state.tensor("keys"), try state.tensor("values"))
    let isSound = [keys, values].allSatisfy { tensor in
      tensor.rank == 4 && tensor.dtype.isFloatingPoint && tensor.shape[1] == batch
        && (batch == 0 || tensor.shape.dropFirst(2).allSatisfy { $0 > 0 })
    }
    try require(
      isSound && keys.shape == values.shape && keys.dtype == values.dtype, "softmax attention",
      expected: "keys and values (entries, \(batch), heads, width)", got: "\(keys) and \(values)",
      advice: "the state was made with another model or batch, or is damaged")
    return keys.shape[0]
  }

  private static func consecutive(_ start: Int, _ length: Int) throws -> Tensor {
    try Tensor((start..<start + length).map { Int64($0) }, shape: [1, length])
  }

  /// Adds a piece's keys and values (length, batch, keyValueHeads, width).
  mutating func append(keys: Tensor, values: Tensor) throws {
    try require(
      keys.rank == 4 && values.rank == 4 && keys.shape[0] == layout.length && values.shape[0] == layout.length,
      "softmax attention", expected: "keys and values of \(layout.length) tokens", got: "\(keys) and \(values)")
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

  /// Without documents and padding, entries and piece are one run but for what was evicted behind the sinks. Closing that
  /// gap changes no distance that the window measures, so they are counted as they lie, and numbers stay small.
  func mask() throws -> AttentionMask {
    var mask = AttentionMask(isCausal: true, window: window, sinks: sinks)
    try ragged?.describe(&mask)
    return mask
  }

  /// For tokens at these distances after the state (a tree of drafts): rotary positions, and what they see of the entries
  /// carried and of each other, but for which of each other are ancestors. Only for a memory made with no piece.
  func tree(depths: [Int]) throws -> (rotary: Tensor, carried: AttentionMask, own: AttentionMask) {
    _ = try state.position(after: depths.count)
    let plain = AttentionMask(isCausal: true, window: window, sinks: sinks)
    var (past, own) = (plain, plain)
    let nodes = try ragged?.following(depths) ?? Tensor(depths.map { Int32(carried + $0) }, shape: [1, depths.count])
    past.keyPositions = try Tensor.range(carried).reshaped([1, carried])
    try ragged?.describe(&past)
    if past.keyDocuments != nil { past.queryDocuments = try Tensor.zeros([1, depths.count], .int32) }
    past.queryPositions = nodes
    own.keyPositions = nodes
    own.queryPositions = nodes
    let standing = depths.map { Int64(start + $0) }
    let rotary = try ragged?.rotaryPositions(standing) ?? Tensor(standing, shape: [1, depths.count])
    return (rotary, past, own)
  }

  /// The state after the piece.
  mutating func finish() throws -> MixerState {
    state.position = try state.position(after: layout.length)
    let survivors = ragged?.survivors(window: window, sinks: sinks)
    for name in ["keys", "values"] {
      let entries = try state.tensor(name)
      state[name] = try survivors?.of(entries) ?? trimmed(entries)
    }
    if let survivors { try ragged?.store(survivors, window: window, sinks: sinks, in: &state) }
    return state
  }

  /// What later tokens may still see of entries in order of position.
  private func trimmed(_ entries: Tensor) throws -> Tensor {
    guard window > 0, entries.shape[0] > window - 1 + sinks else { return entries }
    let recent = try entries.keepingLast(window - 1)
    return sinks == 0 ? recent : try Tensor.concatenated([entries.slice(0..<sinks, axis: 0), recent], axis: 0)
  }
}
