import CFermataKernels

// The few operations in place. Each asks first whether anyone else can see the memory.
extension Tensor {
  /// Row-major memory that only this tensor owns, copied first when it is shared or borrowed.
  package mutating func withMutableBytes<Result>(_ body: (UnsafeMutableRawBufferPointer) throws -> Result) throws
    -> Result
  {
    try makeUnique()
    return try body(UnsafeMutableRawBufferPointer(start: pointer, count: byteCount))
  }

  private mutating func makeUnique() throws {
    // `self` must hold the only reference while we ask.
    var held = storage
    let (offset, shape, strides, dtype, contiguous) = (self.offset, self.shape, self.strides, self.dtype, isContiguous)
    self = Tensor.empty
    if isKnownUniquelyReferenced(&held), !held.isBorrowed, contiguous {
      held.packed.drop()
      self = Tensor(storage: held, offset: offset, shape: shape, strides: strides, dtype: dtype)
    } else {
      self = try Tensor(storage: held, offset: offset, shape: shape, strides: strides, dtype: dtype).copied(to: dtype)
    }
  }

  /// A tensor of no elements: what a variable holds while its value is being changed.
  package static let empty: Tensor = {
    let nothing = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
    return Tensor(storage: Storage(borrowing: nothing, byteCount: 0, owner: Nothing()), shape: [0], dtype: .float32)
  }()
  private final class Nothing {}

  /// Appends rows along the first axis without copying what is there, when there is room behind it.
  ///
  /// This is what caches do at every token: memory grows by doubling, so a token costs the same wherever it stands.
  /// Memory past `filled` has never been seen by anyone, so whoever claims it first may write it even while forks share
  /// what lies before. Tracked tensors are concatenated as any others.
  package mutating func append(_ rows: Tensor) throws {
    try require(
      rank >= 1 && rows.rank == rank && rows.dtype == dtype && rows.shape.dropFirst() == shape.dropFirst(), "append",
      expected: "\(dtype) rows of shape \(shape.dropFirst())", got: "\(rows)")
    if isTracked || rows.isTracked {
      self = try Tensor.concatenated([self, rows], axis: 0)
      return
    }
    let width = shape.dropFirst().reduce(1, *)
    let newShape = [shape[0] + rows.shape[0]] + shape.dropFirst()
    let end = offset + shape[0] * width
    let newEnd = end + rows.count
    if isContiguous, newEnd * dtype.byteCount <= storage.byteCount, storage.claim(from: end, to: newEnd) {
      let oldCount = shape[0]
      self = Tensor(storage: storage, offset: offset, shape: newShape, dtype: dtype)
      try rows.copy(into: slice(oldCount..<newShape[0], axis: 0))
      return
    }
    let grown = try Tensor(uninitialized: [newShape[0] + max(newShape[0], 16)] + shape.dropFirst(), dtype)
    grown.storage.markFilled(newShape[0] * width)
    let result = Tensor(storage: grown.storage, offset: 0, shape: newShape, dtype: dtype)
    if count > 0 { try copy(into: result.slice(0..<shape[0], axis: 0)) }
    try rows.copy(into: result.slice(shape[0]..<newShape[0], axis: 0))
    self = result
  }

  /// The last rows along the first axis; a view, whose memory before it goes when `append` next has to move.
  package func keepingLast(_ count: Int) throws -> Tensor {
    shape[0] <= count ? self : try slice(shape[0] - count..<shape[0], axis: 0)
  }
}

// Writes into memory that the caller has just made and nobody else has seen.
extension Tensor {
  /// Copies values into this tensor's memory.
  package func assign(_ values: Tensor) throws {
    try require(values.shape == shape, "assign", expected: "shape \(shape)", got: "\(values.shape)")
    try values.copy(into: self)
  }

  /// Adds a product of matrices (rows, inner) and (inner, columns) to this contiguous f32 tensor (rows, columns).
  package func accumulateProduct(_ a: Tensor, _ b: Tensor) throws {
    try addProduct(a, b, into: self)
  }
}
