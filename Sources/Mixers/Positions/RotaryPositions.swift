import CFermataKernels
import FermataLayers
import FermataTensors
import Foundation
import RealModule

/// Rotary positions (Su et al. 2021): features are turned in pairs by position · frequency, by default base^(-2i/width), so
/// that the product of a query and a key depends on their distance alone.
public struct RotaryPositions: PositionScheme {
  /// Radians a token, one for each pair of features; features beyond 2 · count pass as they are.
  public let frequencies: [Double]
  /// What turned features are multiplied by, as some scalings to longer contexts ask for.
  public let amplitude: Double
  /// Pairs (2i, 2i+1) instead of (i, i + width/2).
  public let interleaved: Bool
  /// How many features turn.
  public var width: Int { 2 * frequencies.count }
  /// Cosines and sines of r · frequency, (stride, frequencies), for angles in two parts.
  private let small: (cosine: [Double], sine: [Double])

  public init(width: Int, base: Double = 10_000, interleaved: Bool = false) throws {
    try require(
      width > 0 && width % 2 == 0 && base > 1, "rotary positions", expected: "an even width and a base above 1",
      got: "width \(width), base \(base)")
    try self.init(frequencies: Self.frequencies(width: width, base: base), interleaved: interleaved)
  }

  /// - Throws: `TensorError` unless there are frequencies and all numbers are finite.
  public init(frequencies: [Double], amplitude: Double = 1, interleaved: Bool = false) throws {
    try require(
      !frequencies.isEmpty && frequencies.allSatisfy(\.isFinite) && amplitude.isFinite, "rotary positions",
      expected: "at least one frequency, all finite", got: "\(frequencies.count) frequencies, amplitude \(amplitude)")
    self.frequencies = frequencies
    self.amplitude = amplitude
    self.interleaved = interleaved
    let steps = (0..<Self.stride).flatMap { step in frequencies.map { Self.angle(Int64(step), $0) } }
    small = (steps.map(Double.cos), steps.map(Double.sin))
  }

  /// base^(-2i/width)
  static func frequencies(width: Int, base: Double) -> [Double] {
    (0..<width / 2).map { Double.pow(base, -2 * Double($0) / Double(width)) }
  }

  public func apply(_ x: Tensor, positions: Tensor) throws -> Tensor {
    let (cosine, sine) = try angles(positions)
    return try rotary(x, cosine: cosine, sine: sine, width: width, interleaved: interleaved)
  }

  public func apply(query: Tensor, key: Tensor, positions: Tensor) throws -> (query: Tensor, key: Tensor) {
    let (cosine, sine) = try angles(positions)
    return (
      try rotary(query, cosine: cosine, sine: sine, width: width, interleaved: interleaved),
      try rotary(key, cosine: cosine, sine: sine, width: width, interleaved: interleaved)
    )
  }

  /// Cosines and sines (batch or 1, length, width / 2) times the amplitude, f32. Angles are taken in f64: at position 10⁶
  /// an f32 angle would be off by a tenth of a radian. Positions I32 or I64.
  ///
  /// Position p is the multiple of `stride` below it and a remainder r, whose angles are known:
  /// cos(a + b) = cos a cos b − sin a sin b, so that neighbours share the costly part.
  public func angles(_ positions: Tensor) throws -> (cosine: Tensor, sine: Tensor) {
    let half = frequencies.count
    let rows = try positions.values(as: Int64.self)
    var cosine = [Float](repeating: 0, count: rows.count * half)
    var sine = cosine
    var large = Large(multiple: 1)  // no multiple: the first row makes it
    for (row, position) in rows.enumerated() {
      let step = Int(position & Int64(Self.stride - 1)) * half
      if large.multiple != position & ~Int64(Self.stride - 1) { large = self.large(position) }
      for index in 0..<half {
        let (c, s) = (small.cosine[step + index], small.sine[step + index])
        cosine[row * half + index] = Float(large.cosine[index] * c - large.sine[index] * s)
        sine[row * half + index] = Float(large.sine[index] * c + large.cosine[index] * s)
      }
    }
    let shape = positions.shape + [half]
    return (try Tensor(cosine, shape: shape), try Tensor(sine, shape: shape))
  }

  private static let stride = 16

  /// Cosines and sines at a multiple of the stride, times the amplitude.
  private struct Large {
    var multiple: Int64
    var cosine: [Double] = []
    var sine: [Double] = []
  }

  private func large(_ position: Int64) -> Large {
    let multiple = position & ~Int64(Self.stride - 1)
    let angles = frequencies.map { Self.angle(multiple, $0) }
    return Large(
      multiple: multiple, cosine: angles.map { amplitude * Double.cos($0) },
      sine: angles.map { amplitude * Double.sin($0) })
  }

  /// position · frequency, from 2³¹ on less whole turns. The plain product would lose its fraction there; taken apart
  /// into exact products, and each without its turns (exact as well), distances stay what they are at small positions.
  private static func angle(_ position: Int64, _ frequency: Double) -> Double {
    let high = position >> 31
    let low = Double(position & 0x7FFF_FFFF) * frequency
    if high == 0 { return low }
    let product = Double(high) * frequency
    let rest = (-product).addingProduct(Double(high), frequency)
    let turn = 2 * Double.pi
    return (product * 0x1p31).remainder(dividingBy: turn) + (rest * 0x1p31).remainder(dividingBy: turn) + low
  }
}

/// Turns x (batch, length, heads, width) by angles (batch or 1, length, turned / 2).
public func rotary(_ x: Tensor, cosine: Tensor, sine: Tensor, width turned: Int, interleaved: Bool) throws -> Tensor {
  try require(
    x.rank == 4 && x.dtype.isFloatingPoint && turned <= x.shape[3] && turned % 2 == 0
      && cosine.rank == 3 && cosine.shape == sine.shape && cosine.shape[2] == turned / 2
      && cosine.shape[1] == x.shape[1]
      && (cosine.shape[0] == 1 || cosine.shape[0] == x.shape[0]),
    "rotary", expected: "x (batch, length, heads, width) and angles (batch or 1, length, turned / 2)",
    got: "\(x), \(cosine), \(turned) turned")
  try require(
    cosine.dtype == .float32 && sine.dtype == .float32, "rotary", expected: "F32 cosines and sines",
    got: "\(cosine.dtype) and \(sine.dtype)")
  let (cosine, sine) = (try cosine.detached.contiguous(), try sine.detached.contiguous())
  @Sendable func turn(_ x: Tensor, _ direction: Int32) throws -> Tensor {
    let source = try x.rowMajorFeatures()
    let result = try Tensor(uninitialized: x.shape, x.dtype)
    var stride = source.strides3
    withUnsafeBytes(of: &stride) { bytes in
      fm_rotary(
        x.kernelType, source.pointer, bytes.bindMemory(to: Int64.self).baseAddress, cosine.floatPointer,
        sine.floatPointer, cosine.shape[0] == 1 ? 0 : Int64(cosine.shape[1] * cosine.shape[2]), result.pointer,
        Int64(x.shape[0]), Int64(x.shape[1]), Int64(x.shape[2]), Int64(x.shape[3]), Int64(turned), interleaved ? 1 : 0,
        direction)
    }
    Work.add(flops: 3 * x.count, bytes: 2 * x.byteCount)
    withExtendedLifetime((source, cosine, sine)) {}
    return result
  }
  return Tensor.record("rotary", [x], output: try turn(x, 1)) { [try turn($0, -1)] }
}

/// The same in simple operations: the oracle of the fused form. Half-split pairs over the whole width.
package func rotaryReference(_ x: Tensor, cosine: Tensor, sine: Tensor) throws -> Tensor {
  let half = x.shape[3] / 2
  let parts = try x.cast(to: .float32).split(sizes: [half, half], axis: 3)
  let (c, s) = (try cosine.expanded(at: 2), try sine.expanded(at: 2))
  let turned = try Tensor.concatenated([parts[0] * c - parts[1] * s, parts[0] * s + parts[1] * c], axis: 3)
  return try turned.cast(to: x.dtype)
}
