import CFermataKernels

// Views share memory with the tensor they came from. Where no gradient is wanted they return before a history is made: with
// one token at a time, that is what their time goes to.
extension Tensor {
  /// The same elements, row-major; copies only when they are not.
  public func contiguous() throws -> Tensor {
    if isContiguous { return self }
    let result = try copied(to: dtype)
    if !isTracked { return result }
    return Tensor.record("contiguous", [self], output: result) { [$0] }
  }

  /// Converts the elements. Between floating types gradients flow, in the type of the input.
  public func cast(to target: DType) throws -> Tensor {
    if target == dtype { return self }
    let result = try detached.copied(to: target)
    guard isTracked, target.isFloatingPoint, dtype.isFloatingPoint else { return result }
    let source = dtype
    return Tensor.record("cast", [self], output: result) { [try $0.cast(to: source)] }
  }

  /// A copy, row-major, in memory of its own that holds nothing else. Gradients flow through it.
  package func compacted() throws -> Tensor {
    let result = try detached.copied(to: dtype)
    return Tensor.record("compacted", [self], output: result) { [$0] }
  }

  /// A row-major copy in another element type.
  func copied(to target: DType) throws -> Tensor {
    let result = try Tensor(uninitialized: shape, target)
    try copy(into: result)
    return result
  }

  /// Writes the elements into existing memory of the same shape.
  func copy(into target: Tensor) throws {
    // Axes of one element and axes that continue each other are folded, so that kernels see as few as there are.
    let (shape, from, to) = foldedAxes(target)
    try require(shape.count <= Int(FM_MAX_RANK), "copy", expected: "at most \(FM_MAX_RANK) axes", got: "\(self.shape)")
    fm_copy(
      Int32(shape.count), shape.int64, dtype.kernelType, pointer, from.int64, target.dtype.kernelType, target.pointer,
      to.int64)
    Work.add(flops: 0, bytes: byteCount + target.byteCount)
    withExtendedLifetime((storage, target.storage)) {}
  }

  private func foldedAxes(_ target: Tensor) -> (shape: [Int], from: [Int], to: [Int]) {
    var shape: [Int] = []
    var from: [Int] = []
    var to: [Int] = []
    for axis in 0..<rank where self.shape[axis] != 1 {
      let size = self.shape[axis]
      if let last = shape.indices.last, from[last] == strides[axis] * size, to[last] == target.strides[axis] * size {
        shape[last] *= size
        from[last] = strides[axis]
        to[last] = target.strides[axis]
      } else {
        shape.append(size)
        from.append(strides[axis])
        to.append(target.strides[axis])
      }
    }
    return (shape, from, to)
  }

  /// Another shape of as many elements; one size may be -1. A view when the memory allows it.
  public func reshaped(_ newShape: [Int]) throws -> Tensor {
    let shape = try resolve(newShape)
    if shape == self.shape { return self }
    let old = self.shape
    if let strides = viewStrides(for: shape) {
      let view = Tensor(storage: storage, offset: offset, shape: shape, strides: strides, dtype: dtype)
      if !isTracked { return view }
      return Tensor.record("reshaped", [self], output: view) { [try $0.reshaped(old)] }
    }
    let copy = try detached.contiguous()
    let result = Tensor(storage: copy.storage, offset: copy.offset, shape: shape, dtype: dtype)
    return Tensor.record("reshaped", [self], output: result) { [try $0.reshaped(old)] }
  }

  private func resolve(_ newShape: [Int]) throws -> [Int] {
    var shape = newShape
    if let free = shape.firstIndex(of: -1) {
      shape[free] = 1
      let known = try Tensor.elementCount(shape, "reshaped")
      try require(
        known > 0 && count % known == 0, "reshaped", expected: "sizes that divide \(count) elements", got: "\(newShape)"
      )
      shape[free] = count / known
    }
    let total = try Tensor.elementCount(shape, "reshaped")
    try require(total == count, "reshaped", expected: "\(count) elements as in \(self.shape)", got: "\(newShape)")
    return shape
  }

  /// Strides that give the new shape over the same memory, when splitting or joining axes allows it.
  private func viewStrides(for newShape: [Int]) -> [Int]? {
    if isContiguous || count == 0 { return Tensor.rowMajorStrides(newShape) }
    // Runs of old axes that continue each other in memory, the last first. Axes of one element belong to any run.
    var runs: [(size: Int, step: Int)] = []
    for axis in (0..<rank).reversed() where shape[axis] != 1 {
      if let run = runs.last, strides[axis] == run.step * run.size {
        runs[runs.count - 1].size *= shape[axis]
      } else {
        runs.append((shape[axis], strides[axis]))
      }
    }
    // Each run must be covered by whole new axes. The numbers of elements are equal, so axes do not run out.
    var result = [Int](repeating: 1, count: newShape.count)
    var target = newShape.count
    for run in runs {
      var covered = 1
      while covered < run.size {
        target -= 1
        result[target] = run.step * covered
        covered *= newShape[target]
      }
      if covered != run.size { return nil }
    }
    return result
  }

  /// Axes in another order.
  public func transposed(_ order: [Int]) throws -> Tensor {
    try require(
      order.sorted() == Array(0..<rank), "transposed", expected: "each axis of \(shape) once", got: "\(order)")
    let view = Tensor(
      storage: storage, offset: offset, shape: order.map { shape[$0] }, strides: order.map { strides[$0] }, dtype: dtype
    )
    if !isTracked { return view }
    var inverse = order
    for (index, axis) in order.enumerated() { inverse[axis] = index }
    return Tensor.record("transposed", [self], output: view) { [inverse] in [try $0.transposed(inverse)] }
  }

  /// Two axes exchanged.
  public func transposed(_ a: Int, _ b: Int) throws -> Tensor {
    var order = Array(0..<rank)
    order.swapAt(try axis(a, "transposed"), try axis(b, "transposed"))
    return try transposed(order)
  }

  /// The part of an axis in a range.
  public func slice(_ range: Range<Int>, axis: Int) throws -> Tensor {
    let axis = try self.axis(axis, "slice")
    let size = shape[axis]
    try require(
      range.lowerBound >= 0 && range.upperBound <= size, "slice", expected: "a range inside 0..<\(size)",
      got: "\(range)")
    if range == 0..<size { return self }
    var newShape = shape
    newShape[axis] = range.count
    let view = Tensor(
      storage: storage, offset: offset + range.lowerBound * strides[axis], shape: newShape, strides: strides,
      dtype: dtype)
    if !isTracked { return view }
    return Tensor.record("slice", [self], output: view) { gradient in
      [try gradient.padded(axis: axis, before: range.lowerBound, after: size - range.upperBound)]
    }
  }

  /// One index of an axis; the axis disappears.
  public func select(_ index: Int, axis: Int) throws -> Tensor {
    let axis = try self.axis(axis, "select")
    try require(
      index >= 0 && index < shape[axis], "select", expected: "an index in 0..<\(shape[axis])", got: "\(index)")
    var newShape = shape
    newShape.remove(at: axis)
    return try slice(index..<index + 1, axis: axis).reshaped(newShape)
  }

  /// Equal parts along an axis, or parts of the given sizes.
  public func split(sizes: [Int], axis: Int) throws -> [Tensor] {
    let axis = try self.axis(axis, "split")
    try require(
      sizes.allSatisfy { $0 >= 0 && $0 <= shape[axis] } && sizes.reduce(0, +) == shape[axis], "split",
      expected: "sizes that add up to \(shape[axis])", got: "\(sizes)")
    var start = 0
    let source = detached
    let parts = try sizes.map { size in
      defer { start += size }
      return try source.slice(start..<start + size, axis: axis)
    }
    if !isTracked { return parts }
    // One node for all parts: their gradients are joined by one copy instead of padded and added one by one.
    let (whole, dtype) = (self.shape, self.dtype)
    return Tensor.record("split", [self], outputs: parts) { gradients in
      let joined = try zip(gradients, sizes).map { gradient, size in
        var partShape = whole
        partShape[axis] = size
        return try gradient ?? Tensor.zeros(partShape, dtype)
      }
      return [try Tensor.concatenated(joined, axis: axis)]
    }
  }

  /// Zeros added before and after along an axis.
  public func padded(axis: Int, before: Int, after: Int) throws -> Tensor {
    let axis = try self.axis(axis, "padded")
    try require(
      (0...largestPadding).contains(before) && (0...largestPadding).contains(after), "padded",
      expected: "paddings of at least 0 that fit in memory", got: "\(before) and \(after)")
    if before == 0 && after == 0 { return self }
    var newShape = shape
    newShape[axis] += before + after
    let result = try Tensor.zeros(newShape, dtype)
    let size = shape[axis]
    if count > 0 { try copy(into: result.slice(before..<before + size, axis: axis)) }
    return Tensor.record("padded", [self], output: result) { [try $0.slice(before..<before + size, axis: axis)] }
  }

  /// The tensor repeated to a larger shape, without copying.
  public func broadcast(to target: [Int]) throws -> Tensor {
    if target == shape { return self }
    let lead = target.count - rank
    let (_, overflow) = try Tensor.elementCount(target, "broadcast").multipliedReportingOverflow(by: dtype.byteCount)
    try require(!overflow, "broadcast", expected: "a size whose bytes can be counted", got: "\(target)")
    try require(
      lead >= 0 && (0..<rank).allSatisfy { shape[$0] == target[lead + $0] || shape[$0] == 1 }, "broadcast",
      expected: "a shape that \(shape) broadcasts to", got: "\(target)")
    let newStrides =
      [Int](repeating: 0, count: lead) + (0..<rank).map { shape[$0] == target[lead + $0] ? strides[$0] : 0 }
    let view = Tensor(storage: storage, offset: offset, shape: target, strides: newStrides, dtype: dtype)
    if !isTracked { return view }
    let source = shape
    return Tensor.record("broadcast", [self], output: view) { [try $0.summed(to: source)] }
  }

  /// A new axis of one element.
  public func expanded(at axis: Int) throws -> Tensor {
    var newShape = shape
    let position = axis < 0 ? axis + rank + 1 : axis
    try require(position >= 0 && position <= rank, "expanded", expected: "an axis in 0...\(rank)", got: "\(axis)")
    newShape.insert(1, at: position)
    return try reshaped(newShape)
  }

  /// Tensors joined along an axis.
  public static func concatenated(_ parts: [Tensor], axis: Int) throws -> Tensor {
    guard let first = parts.first else {
      throw TensorError("concatenated", expected: "at least one tensor", got: "none")
    }
    let axis = try first.axis(axis, "concatenated")
    if parts.count == 1 { return first }
    var shape = first.shape
    for part in parts {
      try require(
        part.dtype == first.dtype && part.rank == first.rank
          && (0..<first.rank).allSatisfy { $0 == axis || part.shape[$0] == first.shape[$0] },
        "concatenated", expected: "\(first.dtype) tensors of shape \(first.shape) but for axis \(axis)",
        got: "\(part.dtype) \(part.shape)")
    }
    let sizes = parts.map { $0.shape[axis] }
    shape[axis] = sizes.reduce(0, +)
    let result = try Tensor(uninitialized: shape, first.dtype)
    for (part, view) in zip(parts, try result.split(sizes: sizes, axis: axis)) where part.count > 0 {
      try part.copy(into: view)
    }
    return Tensor.record("concatenated", parts, outputs: [result]) { gradients in
      guard let gradient = gradients[0] else { return [] }
      return try gradient.split(sizes: sizes, axis: axis)
    }[0]
  }
}

/// Far above any size in memory, far below where sums of sizes overflow.
private let largestPadding = 1 << 52

extension Tensor {
  /// Strides of the first three axes, as kernels take them.
  package var strides3: (Int64, Int64, Int64) { (Int64(strides[0]), Int64(strides[1]), Int64(strides[2])) }

  /// The values without their history, the last axis without gaps: copied only when it has some.
  package func rowMajorFeatures() throws -> Tensor {
    guard let step = strides.last, step != 1, shape.last != 1 else { return detached }
    return try detached.contiguous()
  }
}

extension [Int] {
  package var int64: [Int64] { map { Int64($0) } }
}
