import CFermataKernels
import FermataTensors

/// What brings the features of each token to a common size.
public protocol Norm: Module {
  /// x (…, width)
  func callAsFunction(_ x: Tensor) throws -> Tensor
}

/// Root mean square norm (Zhang & Sennrich 2019): y = x / sqrt(mean(x²) + ε) · w over the last axis.
public struct RMSNorm: Norm {
  public var weight: Tensor
  public var epsilon: Float

  public init(weight: Tensor, epsilon: Float = 1e-5) {
    self.weight = weight
    self.epsilon = epsilon
  }

  public init(_ width: Int, epsilon: Float = 1e-5) throws {
    self.init(weight: try Tensor.ones([width]), epsilon: epsilon)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight", &weight)
  }

  public func callAsFunction(_ x: Tensor) throws -> Tensor { try rmsNorm(x, weight: weight, epsilon: epsilon) }

  /// The same in simple operations: the oracle of the fused form.
  package static func reference(_ x: Tensor, weight: Tensor, epsilon: Float) throws -> Tensor {
    let wide = try x.cast(to: .float32)
    let scale = try (wide.squared().mean(axis: -1, keepingAxis: true) + epsilon).reciprocalSquareRoot()
    return try (wide * scale * weight).cast(to: x.dtype)
  }
}

/// Fused RMS norm; x (…, width) in f32 or bf16, weight (width) in f32.
public func rmsNorm(_ x: Tensor, weight: Tensor, epsilon: Float) throws -> Tensor {
  let (rows, width) = try normShape("rmsNorm", x, weight)
  let source = try x.detached.contiguous()
  let scale = try weight.detached.cast(to: .float32).contiguous()
  let result = try Tensor(uninitialized: x.shape, x.dtype)
  let inverse = try Tensor(uninitialized: [rows])
  fm_rms_norm(
    x.kernelType, source.pointer, scale.floatPointer, result.pointer, inverse.floatPointer, Int64(rows), Int64(width),
    epsilon)
  Work.add(flops: 4 * x.count, bytes: 2 * x.byteCount)
  guard x.isTracked || weight.isTracked else { return withExtendedLifetime((source, scale, inverse)) { result } }
  return Tensor.record("rmsNorm", [x, weight], output: result) { gradient in
    let dy = try gradient.contiguous()
    let dx = try Tensor(uninitialized: source.shape, source.dtype)
    let dweight = try Tensor(uninitialized: [width])
    fm_rms_norm_backward(
      source.kernelType, source.pointer, scale.floatPointer, inverse.floatPointer, dy.pointer, dx.pointer,
      dweight.floatPointer, Int64(rows), Int64(width))
    Work.add(flops: 8 * source.count, bytes: 3 * source.byteCount)
    withExtendedLifetime((source, scale, inverse, dy)) {}
    return [dx, dweight]
  }
}

/// Layer norm (Ba, Kiros & Hinton 2016): y = (x - mean) / sqrt(variance + ε) · w + b over the last axis.
public struct LayerNorm: Norm {
  public var weight: Tensor
  public var bias: Tensor
  public var epsilon: Float

  public init(weight: Tensor, bias: Tensor, epsilon: Float = 1e-5) {
    self.weight = weight
    self.bias = bias
    self.epsilon = epsilon
  }

  public init(_ width: Int, epsilon: Float = 1e-5) throws {
    self.init(weight: try Tensor.ones([width]), bias: try Tensor.zeros([width]), epsilon: epsilon)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight", &weight)
    try visitor.parameter("bias", &bias)
  }

  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    try layerNorm(x, weight: weight, bias: bias, epsilon: epsilon)
  }

  package static func reference(_ x: Tensor, weight: Tensor, bias: Tensor, epsilon: Float) throws -> Tensor {
    let wide = try x.cast(to: .float32)
    let centred = try wide - wide.mean(axis: -1, keepingAxis: true)
    let scale = try (centred.squared().mean(axis: -1, keepingAxis: true) + epsilon).reciprocalSquareRoot()
    return try (centred * scale * weight + bias).cast(to: x.dtype)
  }
}

/// Fused layer norm; x (…, width) in f32 or bf16, weight and bias (width) in f32.
public func layerNorm(_ x: Tensor, weight: Tensor, bias: Tensor, epsilon: Float) throws -> Tensor {
  let (rows, width) = try normShape("layerNorm", x, weight)
  try require(bias.shape == [width], "layerNorm", expected: "a bias of shape [\(width)]", got: "\(bias.shape)")
  let source = try x.detached.contiguous()
  let scale = try weight.detached.cast(to: .float32).contiguous()
  let shift = try bias.detached.cast(to: .float32).contiguous()
  let result = try Tensor(uninitialized: x.shape, x.dtype)
  let mean = try Tensor(uninitialized: [rows])
  let inverse = try Tensor(uninitialized: [rows])
  fm_layer_norm(
    x.kernelType, source.pointer, scale.floatPointer, shift.floatPointer, result.pointer, mean.floatPointer,
    inverse.floatPointer, Int64(rows), Int64(width), epsilon)
  Work.add(flops: 6 * x.count, bytes: 2 * x.byteCount)
  withExtendedLifetime(shift) {}
  return Tensor.record("layerNorm", [x, weight, bias], output: result) { gradient in
    let dy = try gradient.contiguous()
    let dx = try Tensor(uninitialized: source.shape, source.dtype)
    let dweight = try Tensor(uninitialized: [width])
    let dbias = try Tensor(uninitialized: [width])
    fm_layer_norm_backward(
      source.kernelType, source.pointer, scale.floatPointer, mean.floatPointer, inverse.floatPointer, dy.pointer,
      dx.pointer, dweight.floatPointer, dbias.floatPointer, Int64(rows), Int64(width))
    Work.add(flops: 12 * source.count, bytes: 3 * source.byteCount)
    withExtendedLifetime((source, scale, mean, inverse, dy)) {}
    return [dx, dweight, dbias]
  }
}

private func normShape(_ name: String, _ x: Tensor, _ weight: Tensor) throws -> (rows: Int, width: Int) {
  guard let width = x.shape.last, x.dtype.isFloatingPoint, weight.shape == [width], width > 0 else {
    throw TensorError(name, expected: "floating x (…, width) and weight (width)", got: "\(x) and \(weight)")
  }
  return (x.count / width, width)
}

extension Tensor {
  /// The elements of an f32 tensor.
  package var floatPointer: UnsafeMutablePointer<Float> { pointer.assumingMemoryBound(to: Float.self) }
  package var intPointer: UnsafeMutablePointer<Int32> { pointer.assumingMemoryBound(to: Int32.self) }
  package var bytePointer: UnsafeMutablePointer<UInt8> { pointer.assumingMemoryBound(to: UInt8.self) }
}
