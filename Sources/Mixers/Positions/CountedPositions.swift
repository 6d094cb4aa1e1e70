import FermataTensors

/// Where the tokens of rows stand that may hold padding: each row counts its own.
///
/// The count is state: "tokens" i64 (batch), 8 bytes a row. Padding does not count, so what follows it stands where it would
/// without; document starts do not either, since only distances inside a document matter.
struct CountedPositions {
  /// i64 (batch, length). What stands at padding means nothing.
  let positions: Tensor
  private let counts: Tensor

  static let name = "tokens"

  static func initial(batch: Int) throws -> Tensor { try Tensor.zeros([batch], .int64) }
  static func stateBytes(batch: Int) -> Int { 8 * batch }

  init(_ state: MixerState, _ layout: Layout) throws {
    let before = try state.tensor(Self.name)
    try require(
      before.shape == [layout.batch] && before.dtype == .int64, "positions",
      expected: "I64 counts of shape [\(layout.batch)]", got: "\(before)",
      advice: "the state was made with another model or batch")
    var counts = try before.values(as: Int64.self)
    try require(
      counts.allSatisfy { (0...Int64(MixerState.largestPosition)).contains($0) }, "positions",
      expected: "counts in 0...2^60", got: "\(before)", advice: "the state is damaged")
    let valid = try layout.valid?.values(as: UInt8.self)
    var positions = [Int64](repeating: 0, count: layout.batch * layout.length)
    for row in counts.indices {
      for index in row * layout.length..<(row + 1) * layout.length {
        positions[index] = counts[row]
        counts[row] += valid.map { $0[index] == 0 ? 0 : 1 } ?? 1
      }
    }
    self.positions = try layout.positions ?? Tensor(positions, shape: [layout.batch, layout.length])
    self.counts = try Tensor(counts, shape: [layout.batch])
  }

  /// Moves the counts on past the piece.
  func advance(_ state: inout MixerState) { state[Self.name] = counts }

  /// Moves the counts on past a stretch without padding.
  static func advance(_ state: inout MixerState, by length: Int) throws {
    let counts = try state.tensor(name)
    let moved = try counts.values(as: Int64.self).map { $0.addingReportingOverflow(Int64(length)) }
    try require(
      moved.allSatisfy { !$0.overflow }, "positions", expected: "counts in 0...2^60", got: "\(counts)",
      advice: "the state is damaged")
    state[name] = try Tensor(moved.map(\.partialValue), shape: counts.shape)
  }
}
