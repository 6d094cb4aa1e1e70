import FermataTensors

/// Root mean square norm whose weights are stored less one (Gemma Team 2024): y = x / sqrt(mean(x²) + ε) · (1 + w).
public struct OffsetRMSNorm: Norm {
  public var weight: Tensor
  public let epsilon: Float

  public init(_ width: Int, epsilon: Float) throws {
    weight = try Tensor.zeros([width])
    self.epsilon = epsilon
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight", &weight)
  }

  public func callAsFunction(_ x: Tensor) throws -> Tensor { try rmsNorm(x, weight: weight + 1, epsilon: epsilon) }
}
