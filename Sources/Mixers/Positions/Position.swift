import FermataTensors

/// How attention knows where tokens stand. Small on purpose: a scheme turns queries and keys, or adds to scores,
/// by absolute position alone, so that cuts cannot change it.
public protocol PositionScheme: Sendable {
  /// Queries or keys (batch, length, heads, width) at positions (batch or 1, length), I32 or I64.
  func apply(_ x: Tensor, positions: Tensor) throws -> Tensor
}

/// Leaves order to the mask.
public struct NoPositions: PositionScheme {
  public init() {}
  public func apply(_ x: Tensor, positions: Tensor) throws -> Tensor { x }
}
