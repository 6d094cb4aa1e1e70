import FermataTensors

/// Root mean square norm of gated values over groups of channels (Dao & Gu 2024; the norm by Zhang & Sennrich 2019):
///
///     s = x · silu(gate),   y = s / sqrt(mean over the channel's group of s² + ε) · w
///
/// for x and gate (…, width), with groups of width / groups channels that lie together.
public struct GatedGroupNorm: Module {
  public var weight: Tensor
  public var groups: Int
  public var epsilon: Float

  public init(weight: Tensor, groups: Int = 1, epsilon: Float = 1e-5) {
    (self.weight, self.groups, self.epsilon) = (weight, groups, epsilon)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight", &weight)
  }

  public func callAsFunction(_ x: Tensor, gate: Tensor) throws -> Tensor {
    let gated = try x * gate.silu()
    guard groups > 1 else { return try rmsNorm(gated, weight: weight, epsilon: epsilon) }
    let width = weight.count / groups
    let normed = try rmsNorm(
      gated.reshaped(Array(x.shape.dropLast()) + [groups, width]), weight: Tensor.ones([width]), epsilon: epsilon)
    return try normed.reshaped(x.shape) * weight.cast(to: x.dtype)
  }
}
