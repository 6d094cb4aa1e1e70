import CFermataKernels

/// An array of numbers with a shape: a value. Copies share memory until one of them changes.
///
/// A tensor made from *tracked* tensors remembers how (its `origin`), so that `gradients(of:)` can go back.
/// Operations throw a `TensorError` when shapes or types do not fit: nothing a caller passes can trap.
public struct Tensor: Sendable {
  package let storage: Storage
  /// Elements from the storage's start to the first element.
  package let offset: Int
  public let shape: [Int]
  /// Elements from one index to the next, per axis; 0 where an axis is broadcast.
  package let strides: [Int]
  public let dtype: DType
  package var origin: Origin?

  package init(
    storage: Storage, offset: Int = 0, shape: [Int], strides: [Int]? = nil, dtype: DType, origin: Origin? = nil
  ) {
    self.storage = storage
    self.offset = offset
    self.shape = shape
    self.strides = strides ?? Tensor.rowMajorStrides(shape)
    self.dtype = dtype
    self.origin = origin
  }

  /// Fresh memory of this shape, contents undefined until a kernel writes them.
  package init(uninitialized shape: [Int], _ dtype: DType = .float32) throws {
    let count = try Tensor.elementCount(shape, "tensor")
    let (bytes, overflow) = count.multipliedReportingOverflow(by: dtype.byteCount)
    try require(!overflow, "tensor", expected: "a size that fits in memory", got: "shape \(shape)")
    self.init(storage: try Storage(byteCount: bytes), shape: shape, dtype: dtype)
  }

  public var rank: Int { shape.count }
  /// Number of elements.
  public var count: Int { shape.reduce(1, *) }
  /// Bytes of the elements, shared or not.
  public var byteCount: Int { count * dtype.byteCount }

  /// The same values without their history: gradients stop here.
  public var detached: Tensor { Tensor(storage: storage, offset: offset, shape: shape, strides: strides, dtype: dtype) }

  /// Whether gradients flow back through this tensor.
  public var isTracked: Bool { origin != nil }

  package var isContiguous: Bool {
    var expected = 1
    for axis in stride(from: rank - 1, through: 0, by: -1) where shape[axis] != 1 {
      if strides[axis] != expected { return false }
      expected *= shape[axis]
    }
    return true
  }

  /// Address of the first element.
  package var pointer: UnsafeMutableRawPointer { storage.pointer + offset * dtype.byteCount }
  package var kernelType: fm_type { dtype.kernelType }

  static func rowMajorStrides(_ shape: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in stride(from: shape.count - 2, through: 0, by: -1) {
      strides[axis] = strides[axis + 1] * shape[axis + 1]
    }
    return strides
  }

  static func elementCount(_ shape: [Int], _ operation: String) throws -> Int {
    // An axis of no elements does not excuse the others: strides are products of sizes as well.
    var span = 1
    for size in shape {
      let (product, overflow) = span.multipliedReportingOverflow(by: max(size, 1))
      try require(
        size >= 0 && !overflow, operation, expected: "sizes of at least 0 whose product fits", got: "shape \(shape)")
      span = product
    }
    return shape.contains(0) ? 0 : span
  }

  /// An axis counted from the end when negative.
  package func axis(_ axis: Int, _ operation: String) throws -> Int {
    let resolved = axis < 0 ? axis + rank : axis
    try require(
      resolved >= 0 && resolved < rank, operation, expected: "an axis in \(-rank)..<\(rank) of shape \(shape)",
      got: "\(axis)")
    return resolved
  }
}

extension DType {
  package var kernelType: fm_type {
    switch self {
    case .float32: FM_F32
    case .bfloat16: FM_BF16
    case .int32: FM_I32
    case .int64: FM_I64
    case .uint8: FM_U8
    }
  }
}

extension Tensor: CustomStringConvertible {
  public var description: String { "Tensor(\(shape), \(dtype))" }
}
