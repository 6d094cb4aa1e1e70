import FermataTensors

/// How attention knows where tokens stand. Small on purpose: a scheme turns queries and keys, or adds to scores,
/// by absolute position alone, so that cuts cannot change it.
public protocol PositionScheme: Sendable {
  /// Queries or keys (batch, length, heads, width) at positions (batch or 1, length), I32 or I64.
  func apply(_ x: Tensor, positions: Tensor) throws -> Tensor
  /// Queries and keys of the same tokens: the same as applying it to each, for schemes that can share work.
  func apply(query: Tensor, key: Tensor, positions: Tensor) throws -> (query: Tensor, key: Tensor)
  /// Whether the scheme depends on the length of the whole sequence beside positions.
  var dependsOnLength: Bool { get }
  /// The scheme for sequences of a length.
  func fixed(length: Int) throws -> Self
}

extension PositionScheme {
  public var dependsOnLength: Bool { false }
  public func fixed(length: Int) throws -> Self { self }

  public func apply(query: Tensor, key: Tensor, positions: Tensor) throws -> (query: Tensor, key: Tensor) {
    (try apply(query, positions: positions), try apply(key, positions: positions))
  }
}

/// Leaves order to the mask.
public struct NoPositions: PositionScheme {
  public init() {}
  public func apply(_ x: Tensor, positions: Tensor) throws -> Tensor { x }
}

/// What depends on the length of the whole sequence, as some stretched positions do. It keeps the cut law for sequences of
/// the length that was fixed before their first token.
public protocol LengthDependent {
  /// Whether another length would change anything.
  var dependsOnLength: Bool { get }
  /// Fixes the length of the sequences to come.
  mutating func fix(length: Int) throws
}
