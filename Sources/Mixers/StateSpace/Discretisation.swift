import FermataTensors

/// How a continuous state space x' = λ x + b u becomes a recurrence x_t = ā x_{t-1} + b̄ u_t over steps Δ.
public enum Discretisation: String, Codable, Sendable, CaseIterable {
  /// The input is held over the step: ā = e^{Δλ}, b̄ = b (e^{Δλ} − 1) / λ.
  case zeroOrderHold = "zoh"
  /// The trapezium rule: ā = (1 + Δλ/2) / (1 − Δλ/2), b̄ = b Δ / (1 − Δλ/2).
  case bilinear

  /// ā and b̄ / b for eigenvalues λ and steps Δ, whose shapes broadcast.
  package func callAsFunction(_ eigenvalues: ComplexTensor, step: Tensor) throws -> (
    decay: ComplexTensor, gain: ComplexTensor
  ) {
    let z = try eigenvalues * step
    switch self {
    case .zeroOrderHold:
      return (try z.exponential(), try z.exponentialMinusOne() * eigenvalues.reciprocal())
    case .bilinear:
      let inverse = try (z * -0.5 + 1).reciprocal()
      return (try (z * 0.5 + 1) * inverse, try inverse * step)
    }
  }
}

/// The range that initial steps are drawn from, evenly in their logarithm.
package struct StepRange {
  package var least: Float
  package var greatest: Float

  /// From a mixer's options, 0.001 to 0.1 where they say nothing.
  package init(_ least: Float?, _ greatest: Float?, mixer: String) throws {
    self.least = least ?? 0.001
    self.greatest = greatest ?? 0.1
    guard self.least > 0, self.least <= self.greatest, self.greatest.isFinite else {
      throw ConfigurationError(
        "mixer '\(mixer)'", "dt_min and dt_max must be above 0 and in order, got \(self.least) and \(self.greatest)")
    }
  }

  /// Logarithms of `count` steps.
  package func draw(_ count: Int, _ random: inout RandomSource) throws -> Tensor {
    let (low, high) = (try Tensor(least).log().item(), try Tensor(greatest).log().item())
    return try random.uniform([count], low, high)
  }
}
