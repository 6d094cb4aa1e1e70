import CFermataKernels

// Element-wise operations. Types never promote silently: both sides have one type, and a Swift number takes the tensor's.
extension Tensor {
  static func unary(_ operation: fm_unary, _ name: String, _ x: Tensor) throws -> Tensor {
    try require(x.dtype.isFloatingPoint, name, expected: "a floating type", got: "\(x.dtype)")
    let source = try x.detached.contiguous()
    let result = try Tensor(uninitialized: x.shape, x.dtype)
    fm_unary_apply(operation, x.kernelType, source.pointer, result.pointer, Int64(x.count))
    Work.add(flops: x.count, bytes: 2 * x.byteCount)
    withExtendedLifetime(source.storage) {}
    return result
  }

  static func broadcastShape(_ a: [Int], _ b: [Int], _ name: String) throws -> [Int] {
    let rank = max(a.count, b.count)
    return try (0..<rank).map { axis in
      let left = axis - rank + a.count
      let right = axis - rank + b.count
      let m = left < 0 ? 1 : a[left]
      let n = right < 0 ? 1 : b[right]
      try require(
        m == n || m == 1 || n == 1, name, expected: "shapes that broadcast together", got: "\(a) and \(b)",
        advice: "insert axes of one element where one side should repeat")
      return m == 1 ? n : m
    }
  }

  static func binary(_ operation: fm_binary, _ name: String, _ a: Tensor, _ b: Tensor, result: DType? = nil) throws
    -> Tensor
  {
    try require(
      a.dtype == b.dtype, name, expected: "two tensors of one type", got: "\(a.dtype) and \(b.dtype)",
      advice: "cast one of them")
    let shape = try broadcastShape(a.shape, b.shape, name)
    try require(shape.count <= Int(FM_MAX_RANK), name, expected: "at most \(FM_MAX_RANK) axes", got: "\(shape)")
    let output = try Tensor(uninitialized: shape, result ?? a.dtype)
    let left = try a.detached.broadcast(to: shape)
    let right = try b.detached.broadcast(to: shape)
    fm_binary_apply(
      operation, a.kernelType, Int32(shape.count), shape.int64, left.pointer, left.strides.int64, right.pointer,
      right.strides.int64, output.pointer)
    Work.add(flops: output.count, bytes: a.byteCount + b.byteCount + output.byteCount)
    withExtendedLifetime((left.storage, right.storage)) {}
    return output
  }

  static func scalar(_ operation: fm_binary, _ name: String, _ x: Tensor, _ value: Float, reversed: Bool = false) throws
    -> Tensor
  {
    try require(x.dtype.isFloatingPoint, name, expected: "a floating type", got: "\(x.dtype)")
    let source = try x.detached.contiguous()
    let result = try Tensor(uninitialized: x.shape, x.dtype)
    fm_scalar_apply(operation, x.kernelType, source.pointer, value, reversed ? 1 : 0, result.pointer, Int64(x.count))
    Work.add(flops: x.count, bytes: 2 * x.byteCount)
    withExtendedLifetime(source.storage) {}
    return result
  }

  // MARK: Arithmetic

  public static func + (a: Tensor, b: Tensor) throws -> Tensor {
    let sum = try binary(FM_ADD, "+", a, b)
    guard a.isTracked || b.isTracked else { return sum }
    let (m, n) = (a.shape, b.shape)
    return record("+", [a, b], output: sum) { [try $0.summed(to: m), try $0.summed(to: n)] }
  }

  public static func - (a: Tensor, b: Tensor) throws -> Tensor {
    let (m, n) = (a.shape, b.shape)
    return record("-", [a, b], output: try binary(FM_SUBTRACT, "-", a, b)) {
      [try $0.summed(to: m), try (-$0).summed(to: n)]
    }
  }

  public static func * (a: Tensor, b: Tensor) throws -> Tensor {
    let product = try binary(FM_MULTIPLY, "*", a, b)
    let (wantsX, wantsY) = (a.isTracked, b.isTracked)
    guard wantsX || wantsY else { return product }
    let (x, y) = (a.detached, b.detached)
    return record("*", [a, b], output: product) { gradient in
      [
        wantsX ? try (gradient * y).summed(to: x.shape) : nil,
        wantsY ? try (gradient * x).summed(to: y.shape) : nil,
      ]
    }
  }

  public static func / (a: Tensor, b: Tensor) throws -> Tensor {
    let result = try binary(FM_DIVIDE, "/", a, b)
    let (y, quotient, m) = (b.detached, result, a.shape)
    return record("/", [a, b], output: result) { gradient in
      let dx = try gradient / y
      return [try dx.summed(to: m), try (-(dx * quotient)).summed(to: y.shape)]
    }
  }

  public static func + (a: Tensor, b: Float) throws -> Tensor {
    record("+", [a], output: try scalar(FM_ADD, "+", a, b)) { [$0] }
  }
  public static func + (a: Float, b: Tensor) throws -> Tensor { try b + a }
  public static func - (a: Tensor, b: Float) throws -> Tensor { try a + (-b) }
  public static func - (a: Float, b: Tensor) throws -> Tensor {
    record("-", [b], output: try scalar(FM_SUBTRACT, "-", b, a, reversed: true)) { [try -$0] }
  }
  public static func * (a: Tensor, b: Float) throws -> Tensor {
    record("*", [a], output: try scalar(FM_MULTIPLY, "*", a, b)) { [try $0 * b] }
  }
  public static func * (a: Float, b: Tensor) throws -> Tensor { try b * a }
  public static func / (a: Tensor, b: Float) throws -> Tensor {
    record("/", [a], output: try scalar(FM_DIVIDE, "/", a, b)) { [try $0 / b] }
  }
  public static func / (a: Float, b: Tensor) throws -> Tensor {
    let result = try scalar(FM_DIVIDE, "/", b, a, reversed: true)
    let y = b.detached
    return record("/", [b], output: result) { [try -($0 * result / y)] }
  }
  public static prefix func - (x: Tensor) throws -> Tensor {
    record("negate", [x], output: try unary(FM_NEGATE, "negate", x)) { [try -$0] }
  }

  // MARK: Comparisons (u8 results, no gradients)

  public static func .== (a: Tensor, b: Tensor) throws -> Tensor { try binary(FM_EQUAL, ".==", a, b, result: .uint8) }
  public static func .!= (a: Tensor, b: Tensor) throws -> Tensor {
    try binary(FM_NOT_EQUAL, ".!=", a, b, result: .uint8)
  }
  public static func .< (a: Tensor, b: Tensor) throws -> Tensor { try binary(FM_LESS, ".<", a, b, result: .uint8) }
  public static func .<= (a: Tensor, b: Tensor) throws -> Tensor {
    try binary(FM_LESS_EQUAL, ".<=", a, b, result: .uint8)
  }

  /// condition ? a : b, element by element; condition is u8.
  public static func selecting(_ condition: Tensor, _ a: Tensor, _ b: Tensor) throws -> Tensor {
    try require(
      condition.dtype == .uint8 && a.dtype == b.dtype, "selecting",
      expected: "a U8 condition and two tensors of one type",
      got: "\(condition.dtype), \(a.dtype) and \(b.dtype)")
    let shape = try broadcastShape(condition.shape, broadcastShape(a.shape, b.shape, "selecting"), "selecting")
    try require(shape.count <= Int(FM_MAX_RANK), "selecting", expected: "at most \(FM_MAX_RANK) axes", got: "\(shape)")
    let result = try Tensor(uninitialized: shape, a.dtype)
    let (c, x, y) = (
      try condition.detached.broadcast(to: shape), try a.detached.broadcast(to: shape),
      try b.detached.broadcast(to: shape)
    )
    fm_select(
      a.kernelType, Int32(shape.count), shape.int64, c.pointer.assumingMemoryBound(to: UInt8.self), c.strides.int64,
      x.pointer, x.strides.int64, y.pointer, y.strides.int64, result.pointer)
    withExtendedLifetime((c.storage, x.storage, y.storage)) {}
    let (m, n, dtype, chosen) = (a.shape, b.shape, a.dtype, condition.detached)
    return record("selecting", [a, b], output: result) { gradient in
      let zero = try Tensor.zeros([], dtype)
      return [
        try selecting(chosen, gradient, zero).summed(to: m), try selecting(chosen, zero, gradient).summed(to: n),
      ]
    }
  }

  // MARK: Functions

  public func exp() throws -> Tensor {
    let y = try Tensor.unary(FM_EXP, "exp", self)
    return Tensor.record("exp", [self], output: y) { [try $0 * y] }
  }
  public func log() throws -> Tensor {
    let x = detached
    return Tensor.record("log", [self], output: try Tensor.unary(FM_LOG, "log", self)) { [try $0 / x] }
  }
  public func sqrt() throws -> Tensor {
    let y = try Tensor.unary(FM_SQRT, "sqrt", self)
    return Tensor.record("sqrt", [self], output: y) { [try $0 / (y * 2)] }
  }
  public func reciprocalSquareRoot() throws -> Tensor {
    let y = try Tensor.unary(FM_RECIPROCAL_SQRT, "reciprocalSquareRoot", self)
    return Tensor.record("reciprocalSquareRoot", [self], output: y) { [try $0 * (y * y * y) * -0.5] }
  }
  public func squared() throws -> Tensor {
    let x = detached
    return Tensor.record("squared", [self], output: try Tensor.unary(FM_SQUARE, "squared", self)) { [try $0 * x * 2] }
  }
  public func absolute() throws -> Tensor {
    let x = detached
    return Tensor.record("absolute", [self], output: try Tensor.unary(FM_ABSOLUTE, "absolute", self)) {
      [try $0 * Tensor.unary(FM_SIGN, "sign", x)]
    }
  }
  /// 1 / (1 + e^-x)
  public func sigmoid() throws -> Tensor {
    let y = try Tensor.unary(FM_SIGMOID, "sigmoid", self)
    return Tensor.record("sigmoid", [self], output: y) { [try $0 * y * (1 - y)] }
  }
  /// log(sigmoid(x)), exact for large |x|
  public func logSigmoid() throws -> Tensor {
    let x = detached
    return Tensor.record("logSigmoid", [self], output: try Tensor.unary(FM_LOG_SIGMOID, "logSigmoid", self)) {
      [try $0 * (-x).sigmoid()]
    }
  }
  public func tanh() throws -> Tensor {
    let y = try Tensor.unary(FM_TANH, "tanh", self)
    return Tensor.record("tanh", [self], output: y) { [try $0 * (1 - y * y)] }
  }
  /// x sigmoid(x)
  public func silu() throws -> Tensor {
    let x = detached
    return Tensor.record("silu", [self], output: try Tensor.unary(FM_SILU, "silu", self)) {
      [try $0 * Tensor.unary(FM_SILU_SLOPE, "siluSlope", x)]
    }
  }
  /// x + 1 above zero, e^x below: elu(x) + 1
  public func eluPlusOne() throws -> Tensor {
    let x = detached
    return Tensor.record("eluPlusOne", [self], output: try Tensor.unary(FM_ELU_PLUS_ONE, "eluPlusOne", self)) {
      [try $0 * Tensor.unary(FM_ELU_PLUS_ONE_SLOPE, "eluPlusOneSlope", x)]
    }
  }
  /// x Φ(x), with the normal distribution function Φ (Hendrycks & Gimpel 2016).
  public func gelu() throws -> Tensor {
    let x = detached
    return Tensor.record("gelu", [self], output: try Tensor.unary(FM_GELU, "gelu", self)) {
      [try $0 * Tensor.unary(FM_GELU_SLOPE, "geluSlope", x)]
    }
  }
  /// log(1 + e^x)
  public func softplus() throws -> Tensor {
    let x = detached
    return Tensor.record("softplus", [self], output: try Tensor.unary(FM_SOFTPLUS, "softplus", self)) {
      [try $0 * x.sigmoid()]
    }
  }
  public func relu() throws -> Tensor {
    let x = detached
    return Tensor.record("relu", [self], output: try Tensor.unary(FM_RELU, "relu", self)) { gradient in
      let zero = try Tensor.zeros([], x.dtype)
      return [try Tensor.selecting(zero .< x, gradient, zero)]
    }
  }
  /// x Φ(x) with Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 (Hendrycks & Gimpel 2016).
  public func geluTanh() throws -> Tensor {
    let x = detached
    return Tensor.record("geluTanh", [self], output: try Tensor.unary(FM_GELU_TANH, "geluTanh", self)) { gradient in
      let t = try ((x + x * x * x * 0.044715) * 0.797_884_56).tanh()
      let slope = try (1 - t * t) * (x * x * 0.134145 + 1) * 0.797_884_56
      return [try gradient * ((t + 1) * 0.5 + x * slope * 0.5)]
    }
  }
  public func sine() throws -> Tensor {
    let x = detached
    return Tensor.record("sine", [self], output: try Tensor.unary(FM_SINE, "sine", self)) { [try $0 * x.cosine()] }
  }
  public func cosine() throws -> Tensor {
    let x = detached
    return Tensor.record("cosine", [self], output: try Tensor.unary(FM_COSINE, "cosine", self)) {
      [try -($0 * x.sine())]
    }
  }

  /// Whether any value is NaN or infinite.
  public func hasNonFinite() throws -> Bool {
    guard dtype.isFloatingPoint else { return false }
    let source = try detached.contiguous()
    return withExtendedLifetime(source.storage) {
      fm_has_non_finite(source.kernelType, source.pointer, Int64(source.count)) != 0
    }
  }
}
