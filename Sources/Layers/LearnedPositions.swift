import FermataTensors

/// A learned vector for each position (Gehring et al. 2017), added to the embedding of the token that stands there.
public struct LearnedPositions: Module {
  public var weight: Tensor
  /// Rows of the table before that of position 0.
  public let offset: Int

  public init(_ count: Int, _ width: Int, offset: Int = 0, random: inout RandomSource) throws {
    weight = try random.normal([count + offset, width], deviation: 0.02)
    self.offset = offset
  }

  /// How many positions there are.
  public var count: Int { weight.shape[0] - offset }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight", &weight)
  }

  /// The vectors (batch or 1, length, width) of positions (batch or 1, length), or of the `length` positions from `start`.
  /// - Throws: `TensorError` for a position beyond the table.
  public func callAsFunction(_ positions: Tensor?, from start: Int, length: Int) throws -> Tensor {
    let indices = try positions?.values(as: Int32.self) ?? (start..<start + length).map { Int32(clamping: $0) }
    if let last = indices.max() {
      try require(
        last < count && indices.allSatisfy { $0 >= 0 }, "positions",
        expected: "positions in 0..<\(count), which are all that this model has learned", got: "\(last)",
        advice: "give a shorter text")
    }
    return try weight.rows(at: Tensor(indices.map { $0 + Int32(offset) }, shape: [positions?.shape[0] ?? 1, length]))
  }
}
