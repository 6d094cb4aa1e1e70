import FermataTensors

/// y = x Wᵀ + b with W (outputs, inputs), as PyTorch and safetensors files store it.
///
/// The product runs in the type of x: f32 master weights are rounded to bf16 for bf16 activations and their gradient comes
/// back in f32, straight from the product.
public struct Linear: Module {
  public var weight: Tensor
  public var bias: Tensor?

  public init(weight: Tensor, bias: Tensor? = nil) {
    self.weight = weight
    self.bias = bias
  }

  /// Normal weights of deviation `gain` / sqrt(inputs).
  public init(_ inputs: Int, _ outputs: Int, bias: Bool = false, gain: Float = 1, random: inout RandomSource) throws {
    weight = try random.normal([outputs, inputs], deviation: gain / Float(inputs).squareRoot())
    self.bias = bias ? try Tensor.zeros([outputs]) : nil
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight", &weight)
    try visitor.parameter("bias", &bias)
  }

  /// x (…, inputs) to (…, outputs)
  public func callAsFunction(_ x: Tensor) throws -> Tensor { try linear(x, weight: weight, bias: bias) }
}

/// y = x Wᵀ + b; x (…, inputs), W (outputs, inputs), b (outputs).
public func linear(_ x: Tensor, weight: Tensor, bias: Tensor? = nil) throws -> Tensor {
  try require(
    weight.rank == 2 && x.rank >= 1 && x.shape[x.rank - 1] == weight.shape[1], "linear",
    expected: "x (…, \(weight.shape.last ?? 0)) for weight \(weight.shape)", got: "\(x.shape)")
  try require(
    bias == nil || bias?.shape == [weight.shape[0]], "linear", expected: "a bias of shape [\(weight.shape[0])]",
    got: "\(bias?.shape ?? [])")
  let (outputs, inputs) = (weight.shape[0], weight.shape[1])
  let rows = try x.detached.contiguous().reshaped([-1, inputs])
  let matrix = try ProductWeight(weight, rows: rows.shape[0], dtype: x.dtype)
  let shape = Array(x.shape.dropLast()) + [outputs]
  let result = try matrix.forward(rows, output: x.dtype).reshaped(shape)
  let (xShape, weightType, wantsX, wantsWeight) = (x.shape, weight.dtype, x.isTracked, weight.isTracked)
  let y = Tensor.record("linear", [x, weight], output: result) { gradient in
    let dy = try gradient.contiguous().reshaped([-1, outputs])
    return [
      wantsX ? try matrix.backward(dy, output: rows.dtype).reshaped(xShape) : nil,
      wantsWeight ? try product(dy.transposed(0, 1), rows, output: .float32).cast(to: weightType) : nil,
    ]
  }
  guard let bias else { return y }
  return try y + bias.cast(to: x.dtype)
}
