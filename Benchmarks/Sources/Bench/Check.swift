import Fermata

/// A comparison of results: the root mean square of the difference over that of what was expected.
struct Check {
  var what: String
  var error: Double
  var allowed: Double
  var holds: Bool { error <= allowed }

  init(_ what: String, error: Double, allowed: Double) {
    (self.what, self.error, self.allowed) = (what, error, allowed)
  }

  init(_ what: String, _ actual: [Double], _ expected: [Double], allowed: Double) {
    var (difference, size) = (0.0, 0.0)
    for (a, e) in zip(actual, expected) {
      difference += (a - e) * (a - e)
      size += e * e
    }
    let error =
      actual.count == expected.count ? (difference / max(size, .leastNormalMagnitude)).squareRoot() : .infinity
    // A NaN compares as false, so it fails.
    self.init(what, error: error, allowed: allowed)
  }

  init(_ what: String, _ actual: Tensor, _ expected: Tensor, allowed: Double) throws {
    guard actual.shape == expected.shape else {
      self.init("\(what) \(actual.shape) for \(expected.shape)", error: .infinity, allowed: allowed)
      return
    }
    try self.init(what, actual.floats().map(Double.init), expected.floats().map(Double.init), allowed: allowed)
  }
}

extension DType {
  /// What results in this type may differ by from an oracle in f32: roundings of what goes in, between and out.
  var allowance: Double { self == .bfloat16 ? 2e-2 : 2e-5 }
  var short: String { self == .bfloat16 ? "bf16" : "f32" }
}
