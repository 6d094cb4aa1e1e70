import FermataTensors

/// y = x W + b with W (inputs, outputs), as checkpoints of GPT-2 store it.
public struct TransposedLinear: Module {
  public var weight: Tensor
  public var bias: Tensor

  public init(_ inputs: Int, _ outputs: Int, random: inout RandomSource) throws {
    weight = try random.normal([inputs, outputs], deviation: 1 / Float(inputs).squareRoot())
    bias = try Tensor.zeros([outputs])
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight", &weight)
    try visitor.parameter("bias", &bias)
  }

  /// x (…, inputs) to (…, outputs)
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    try linear(x, weight: weight.transposed(0, 1), bias: bias)
  }
}
