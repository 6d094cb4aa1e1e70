import FermataTensors

/// How far two results may lie apart: the root mean square of the difference against that of the expected values,
/// plus a floor for values that should vanish. No element may be off by more than `spread` times that.
package struct Tolerance: Sendable {
  package var ratio: Double
  package var floor: Double
  package var spread: Double = 20

  package init(ratio: Double, floor: Double, spread: Double = 20) {
    self.ratio = ratio
    self.floor = floor
    self.spread = spread
  }

  /// Every bit.
  package static let exact = Tolerance(ratio: 0, floor: 0)

  /// One rounding of each element.
  package static func elementwise(_ dtype: DType) -> Tolerance {
    dtype == .bfloat16 ? Tolerance(ratio: 3e-3, floor: 1e-6) : Tolerance(ratio: 5e-7, floor: 1e-7)
  }

  /// Sums and products of matrices, accumulated in f32.
  package static func product(_ dtype: DType) -> Tolerance {
    dtype == .bfloat16 ? Tolerance(ratio: 4e-3, floor: 1e-5) : Tolerance(ratio: 2e-6, floor: 1e-6)
  }

  /// A fused operation against its reference in f32 over the same inputs.
  package static func fused(_ dtype: DType) -> Tolerance {
    dtype == .bfloat16 ? Tolerance(ratio: 6e-3, floor: 1e-5) : Tolerance(ratio: 4e-6, floor: 1e-6)
  }

  /// Gradients of a fused operation: in bf16 the incoming gradient and what was kept are rounded too.
  package static func fusedGradient(_ dtype: DType) -> Tolerance {
    dtype == .bfloat16 ? Tolerance(ratio: 1.5e-2, floor: 1e-4) : Tolerance(ratio: 1e-5, floor: 2e-6)
  }
}

/// A failed comparison: what was compared, the measured and the allowed error, and how to see it again.
package struct Mismatch: Error, CustomStringConvertible {
  package var description: String
  package init(_ text: String) { description = text + " [FERMATA_TEST_SEED=\(TestRun.seed)]" }
}

/// Throws unless two tensors have one shape and type and values within the tolerance.
package func expectClose(
  _ actual: Tensor, _ expected: Tensor, _ tolerance: Tolerance, _ label: @autoclosure () -> String = ""
)
  throws
{
  guard actual.shape == expected.shape, actual.dtype == expected.dtype else {
    throw Mismatch("\(label()): expected \(expected), got \(actual)")
  }
  try expectClose(actual.floats().map(Double.init), expected.floats().map(Double.init), tolerance, label())
}

/// Throws unless the values lie within the tolerance. Infinities must be the same; NaN never is.
package func expectClose(
  _ actual: [Double], _ expected: [Double], _ tolerance: Tolerance, _ label: @autoclosure () -> String = ""
) throws {
  guard actual.count == expected.count else {
    throw Mismatch("\(label()): expected \(expected.count) values, got \(actual.count)")
  }
  var errorSquares = 0.0
  var squares = 0.0
  var worst = (error: -1.0, index: 0)
  for (index, (a, e)) in zip(actual, expected).enumerated() where a != e {
    guard a.isFinite, e.isFinite else { throw Mismatch("\(label()): expected \(e), got \(a) at element \(index)") }
    errorSquares += (a - e) * (a - e)
    if abs(a - e) > worst.error { worst = (abs(a - e), index) }
  }
  for e in expected where e.isFinite { squares += e * e }
  let count = Double(max(actual.count, 1))
  let (error, size) = ((errorSquares / count).squareRoot(), (squares / count).squareRoot())
  let allowed = tolerance.ratio * size + tolerance.floor
  guard error > allowed || worst.error > tolerance.spread * allowed else { return }
  throw Mismatch(
    "\(label()): RMS error \(error) of values of size \(size) (ratio \(error / size)), allowed \(allowed); "
      + "worst at element \(worst.index): expected \(expected[worst.index]), got \(actual[worst.index])")
}

/// Throws unless two tensors agree in every bit.
package func expectSameBits(_ actual: Tensor, _ expected: Tensor, _ label: @autoclosure () -> String = "") throws {
  guard actual.shape == expected.shape, actual.dtype == expected.dtype else {
    throw Mismatch("\(label()): expected \(expected), got \(actual)")
  }
  let same = try actual.withBytes { left in try expected.withBytes { right in left.elementsEqual(right) } }
  if !same {
    try expectClose(actual, expected, .exact, label())
    throw Mismatch("\(label()): equal numbers, but other bits")
  }
}
