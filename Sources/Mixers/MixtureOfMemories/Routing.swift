import FermataTensors

/// Which memories each token of a piece goes to, and where its reading is found afterwards.
///
/// A token's choice depends on its own scores alone. Each memory sees a sequence of its own, row by row: the tokens that chose it, in
/// order. Rows of a piece differ in how many there are, so shorter ones end in padding.
struct Routing {
  /// One memory's sequence.
  struct Sequence {
    /// Rows of a (batch · length, …) table, i32 (batch, capacity).
    let tokens: Tensor
    let layout: Layout

    /// Of positions (batch, length), those of this memory's tokens: i64 (batch, capacity).
    func gathered(_ positions: Tensor) throws -> Tensor {
      let all =
        positions.dtype == .int64
        ? try positions.values(as: Int64.self) : try positions.values(as: Int32.self).map { Int64($0) }
      return try Tensor(tokens.values(as: Int32.self).map { all.isEmpty ? 0 : all[Int($0)] }, shape: tokens.shape)
    }
  }

  let sequences: [Sequence]
  /// i32 (batch, length, top): rows of all readings, one memory's (batch · capacity) after another's.
  let readings: Tensor
  /// i32 (batch, length, top): elements of scores (batch, length, memories) that were chosen.
  let chosenScores: Tensor

  /// The highest `top` of scores (batch, length, memories), i32 (batch, length, top), the lower index first where they are equal.
  static func choices(_ scores: Tensor, top: Int) throws -> Tensor {
    let memories = scores.shape[2]
    let values = try scores.detached.floats()
    let tokens = scores.shape[0] * scores.shape[1]
    var choices = [Int32](repeating: 0, count: tokens * top)
    for token in 0..<tokens {
      for slot in token * top..<(token + 1) * top {
        var best: Int?
        for memory in 0..<memories where !choices[token * top..<slot].contains(Int32(memory)) {
          if let found = best, !(values[token * memories + memory] > values[token * memories + found]) { continue }
          best = memory
        }
        choices[slot] = Int32(best ?? 0)
      }
    }
    return try Tensor(choices, shape: [scores.shape[0], scores.shape[1], top])
  }

  init(_ choices: Tensor, memories: Int, layout: Layout) throws {
    let (batch, length, top) = (layout.batch, layout.length, choices.shape[2])
    try require(
      choices.shape == [batch, length, top] && choices.dtype == .int32, "routing",
      expected: "I32 choices (\(batch), \(length), top)", got: "\(choices)")
    let chosen = try choices.values(as: Int32.self).map { Int($0) }
    try require(
      chosen.allSatisfy { (0..<memories).contains($0) }, "routing", expected: "choices in 0..<\(memories)",
      got: "one outside")
    let valid = try layout.valid?.values(as: UInt8.self)
    let resets = try layout.resets?.values(as: UInt8.self)
    var rows = [RowPlan](repeating: RowPlan(), count: memories * batch)
    var places = [Int](repeating: 0, count: chosen.count)
    for row in 0..<batch {
      for token in row * length..<(row + 1) * length {
        if let resets, resets[token] != 0 { for memory in 0..<memories { rows[memory * batch + row].forget() } }
        if let valid, valid[token] == 0 { continue }
        for slot in token * top..<(token + 1) * top {
          places[slot] = rows[chosen[slot] * batch + row].append(token)
        }
      }
    }
    for index in rows.indices { rows[index].finish() }
    var (sequences, starts, start): ([Sequence], [Int], Int) = ([], [], 0)
    for memory in 0..<memories {
      let own = rows[memory * batch..<(memory + 1) * batch]
      let sequence = try Self.sequence(Array(own), hasResets: resets != nil)
      sequences.append(sequence)
      starts.append(start)
      start += batch * sequence.layout.length
    }
    var readings = [Int32](repeating: 0, count: chosen.count)
    for slot in chosen.indices {
      let (memory, row) = (chosen[slot], slot / (top * max(length, 1)))
      if let valid, valid[slot / top] == 0 { continue }
      readings[slot] = Int32(starts[memory] + row * sequences[memory].layout.length + places[slot])
    }
    self.sequences = sequences
    self.readings = try Tensor(readings, shape: choices.shape)
    chosenScores = try Tensor(
      chosen.enumerated().map { Int32($0.offset / top * memories + $0.element) }, shape: choices.shape)
  }

  /// The tokens of one row that go to one memory. A document's start counts at the next of them, or at a token of padding.
  private struct RowPlan {
    var tokens: [Int] = []
    var resets: [UInt8] = []
    var padding = 0
    private var forgets = false

    mutating func forget() { forgets = true }

    /// Adds a token and returns its place.
    mutating func append(_ token: Int) -> Int {
      tokens.append(token)
      resets.append(forgets ? 1 : 0)
      forgets = false
      return tokens.count - 1
    }

    mutating func finish() {
      guard forgets else { return }
      _ = append(0)
      padding = 1
    }
  }

  private static func sequence(_ rows: [RowPlan], hasResets: Bool) throws -> Sequence {
    let capacity = rows.map(\.tokens.count).max() ?? 0
    let shape = [rows.count, capacity]
    func padded<Element>(_ values: [Element], _ filler: Element) -> [Element] {
      values + Array(repeating: filler, count: capacity - values.count)
    }
    let isFull = rows.allSatisfy { $0.tokens.count == capacity && $0.padding == 0 }
    let valid = rows.flatMap { row in
      padded(Array(repeating: UInt8(1), count: row.tokens.count - row.padding), 0)
    }
    let layout = Layout(
      batch: rows.count, length: capacity,
      resets: hasResets ? try Tensor(rows.flatMap { padded($0.resets, 0) }, shape: shape) : nil,
      valid: isFull ? nil : try Tensor(valid, shape: shape))
    return Sequence(
      tokens: try Tensor(rows.flatMap { padded($0.tokens.map { Int32($0) }, 0) }, shape: shape), layout: layout)
  }
}
