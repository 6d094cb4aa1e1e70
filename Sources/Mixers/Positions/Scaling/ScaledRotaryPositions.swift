import FermataTensors

/// Rotary positions with the frequencies of a scaling for one length of sequence.
public struct ScaledRotaryPositions: PositionScheme {
  public let scaling: any RotaryScaling
  /// The length of sequence that frequencies are for.
  public let length: Int
  private let rotary: RotaryPositions

  public init(_ scaling: any RotaryScaling, length: Int) throws {
    self.scaling = scaling
    self.length = length
    let (values, amplitude) = scaling.frequencies(length: length)
    rotary = try RotaryPositions(frequencies: values, amplitude: amplitude)
  }

  /// Whether another length would have other frequencies.
  public var dependsOnLength: Bool { type(of: scaling).dependsOnLength }

  /// The same scaling for sequences of another length.
  public func fixed(length: Int) throws -> ScaledRotaryPositions { try ScaledRotaryPositions(scaling, length: length) }

  public func apply(_ x: Tensor, positions: Tensor) throws -> Tensor { try rotary.apply(x, positions: positions) }

  public func apply(query: Tensor, key: Tensor, positions: Tensor) throws -> (query: Tensor, key: Tensor) {
    try rotary.apply(query: query, key: key, positions: positions)
  }
}
