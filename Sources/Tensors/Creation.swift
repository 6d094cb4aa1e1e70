import CFermataKernels

extension Tensor {
  /// A tensor of these values, row-major.
  public init<Element: TensorElement>(_ values: [Element], shape: [Int]) throws {
    let count = try Tensor.elementCount(shape, "Tensor(_:shape:)")
    try require(
      count == values.count, "Tensor(_:shape:)", expected: "\(count) values for shape \(shape)", got: "\(values.count)")
    try self.init(uninitialized: shape, Element.dtype)
    let target = pointer
    values.withUnsafeBytes { bytes in
      if let base = bytes.baseAddress { target.copyMemory(from: base, byteCount: bytes.count) }
    }
  }

  public init(_ values: [Float]) throws { try self.init(values, shape: [values.count]) }
  public init(_ value: Float) throws { try self.init([value], shape: []) }

  /// Every element the same.
  public static func full(_ shape: [Int], _ value: Double, _ dtype: DType = .float32) throws -> Tensor {
    let result = try Tensor(uninitialized: shape, dtype)
    fm_fill(dtype.kernelType, result.pointer, value, Int64(result.count))
    return result
  }

  public static func zeros(_ shape: [Int], _ dtype: DType = .float32) throws -> Tensor { try full(shape, 0, dtype) }
  public static func ones(_ shape: [Int], _ dtype: DType = .float32) throws -> Tensor { try full(shape, 1, dtype) }

  /// start, start + step, … (count numbers)
  public static func range(_ count: Int, from start: Double = 0, step: Double = 1, _ dtype: DType = .int32) throws
    -> Tensor
  {
    let result = try Tensor(uninitialized: [count], dtype)
    fm_iota(dtype.kernelType, result.pointer, start, step, Int64(count))
    return result
  }

  /// The values, row-major, converted when the tensor's type differs.
  public func values<Element: TensorElement>(as type: Element.Type = Element.self) throws -> [Element] {
    let source = try cast(to: Element.dtype).detached.contiguous()
    return [Element](unsafeUninitializedCapacity: source.count) { buffer, count in
      if let base = buffer.baseAddress {
        UnsafeMutableRawPointer(base).copyMemory(from: source.pointer, byteCount: source.byteCount)
      }
      count = source.count
    }
  }

  /// The values of a tensor as Floats, row-major.
  public func floats() throws -> [Float] { try values(as: Float.self) }

  /// The only element.
  public func item() throws -> Float {
    try require(count == 1, "item()", expected: "a tensor of one element", got: "shape \(shape)")
    return try floats()[0]
  }

  /// The raw bytes of a contiguous tensor, valid inside the body.
  package func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
    let source = try detached.contiguous()
    return try withExtendedLifetime(source.storage) {
      try body(UnsafeRawBufferPointer(start: source.pointer, count: source.byteCount))
    }
  }
}

/// A counter-based generator (Philox 4x32-10, Salmon et al. 2011): the draw at an index depends on seed, stream and index
/// alone, never on the number of threads or on what was drawn before.
public struct RandomSource: Sendable, Codable, Equatable {
  public var seed: UInt64
  public var stream: UInt64
  /// The next index; drawing moves it on.
  public var position: UInt64
  /// Draws are zeros, each tensor of them one number in memory.
  private var drawsZeros = false

  private enum CodingKeys: String, CodingKey { case seed, stream, position }

  /// For parameters that are read from a file next: zeros of the right shape that take no memory and no time.
  public static let none: RandomSource = {
    var source = RandomSource(seed: 0)
    source.drawsZeros = true
    return source
  }()

  public init(seed: UInt64, stream: UInt64 = 0, position: UInt64 = 0) {
    self.seed = seed
    self.stream = stream
    self.position = position
  }

  /// Standard normal numbers times `deviation`.
  public mutating func normal(_ shape: [Int], deviation: Float = 1) throws -> Tensor {
    if drawsZeros { return try Tensor.zeros([]).broadcast(to: shape) }
    let result = try Tensor(uninitialized: shape)
    position += position & 1  // Box-Muller uses pairs
    fm_random_normal(seed, stream, position, result.pointer.assumingMemoryBound(to: Float.self), Int64(result.count))
    position += UInt64(result.count)
    return deviation == 1 ? result : try result * deviation
  }

  /// Uniform numbers in low..<high.
  public mutating func uniform(_ shape: [Int], _ low: Float = 0, _ high: Float = 1) throws -> Tensor {
    if drawsZeros { return try Tensor.zeros([]).broadcast(to: shape) }
    let result = try Tensor(uninitialized: shape)
    fm_random_uniform(seed, stream, position, result.pointer.assumingMemoryBound(to: Float.self), Int64(result.count))
    position += UInt64(result.count)
    return low == 0 && high == 1 ? result : try result * (high - low) + low
  }

  /// One uniform number in [0, 1).
  public mutating func nextUniform() -> Float {
    if drawsZeros { return 0 }
    var value: Float = 0
    fm_random_uniform(seed, stream, position, &value, 1)
    position += 1
    return value
  }
}
