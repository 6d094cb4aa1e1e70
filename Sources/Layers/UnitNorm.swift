import FermataTensors

/// x / √(Σ x² + ε) over the last axis: vectors of length one.
public func unitNorm(_ x: Tensor, epsilon: Float = 1e-6) throws -> Tensor {
  guard let width = x.shape.last, width > 0 else {
    throw TensorError("unitNorm", expected: "x (…, width)", got: "\(x)")
  }
  // The root mean square norm, with the mean's divisor taken out again.
  let weight = try Tensor.full([width], 1 / Double(width).squareRoot())
  return try rmsNorm(x, weight: weight, epsilon: epsilon / Float(width))
}
