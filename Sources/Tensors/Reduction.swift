import CFermataKernels

extension Tensor {
  /// (outer, axis, inner) sizes around an axis.
  func sizes(around axis: Int) -> (outer: Int, size: Int, inner: Int) {
    (shape[..<axis].reduce(1, *), shape[axis], shape[(axis + 1)...].reduce(1, *))
  }

  func reduced(_ operation: fm_reduction, axis: Int, keepingAxis: Bool) throws -> Tensor {
    try requireSummable("reduction")
    var newShape = shape
    newShape[axis] = 1
    let source = try detached.contiguous()
    let result = try Tensor(uninitialized: newShape, dtype)
    let (outer, size, inner) = sizes(around: axis)
    fm_reduce(operation, kernelType, source.pointer, result.pointer, Int64(outer), Int64(size), Int64(inner))
    Work.add(flops: count, bytes: byteCount + result.byteCount)
    withExtendedLifetime(source.storage) {}
    if keepingAxis { return result }
    newShape.remove(at: axis)
    return try result.reshaped(newShape)
  }

  /// Bytes are flags: kernels that sum or compare along an axis do not take them.
  private func requireSummable(_ operation: String) throws {
    try require(
      dtype != .uint8, operation, expected: "a floating or wide integer type", got: "\(dtype)", advice: "cast it first")
  }

  /// Sum over an axis, accumulated in f32.
  public func sum(axis: Int, keepingAxis: Bool = false) throws -> Tensor {
    let axis = try self.axis(axis, "sum")
    let full = shape
    return Tensor.record("sum", [self], output: try reduced(FM_SUM, axis: axis, keepingAxis: keepingAxis)) { gradient in
      let kept = keepingAxis ? gradient : try gradient.expanded(at: axis)
      return [try kept.broadcast(to: full)]
    }
  }

  /// Sum of all elements.
  public func sum() throws -> Tensor { try reshaped([count]).sum(axis: 0) }
  public func mean() throws -> Tensor { try sum() / Float(max(count, 1)) }
  public func mean(axis: Int, keepingAxis: Bool = false) throws -> Tensor {
    let size = shape[try self.axis(axis, "mean")]
    return try sum(axis: axis, keepingAxis: keepingAxis) / Float(max(size, 1))
  }

  /// Largest element over an axis. The gradient goes to every element that equals it.
  public func maximum(axis: Int, keepingAxis: Bool = false) throws -> Tensor {
    let axis = try self.axis(axis, "maximum")
    let x = detached
    let result = try reduced(FM_MAX, axis: axis, keepingAxis: keepingAxis)
    return Tensor.record("maximum", [self], output: result) { gradient in
      let kept = keepingAxis ? gradient : try gradient.expanded(at: axis)
      let top = keepingAxis ? result : try result.expanded(at: axis)
      return [try Tensor.selecting(x .== top, kept, Tensor.zeros([], x.dtype))]
    }
  }

  /// Index (i32) of the first largest element over an axis.
  public func argmax(axis: Int) throws -> Tensor {
    let axis = try self.axis(axis, "argmax")
    try requireSummable("argmax")
    let source = try detached.contiguous()
    let (outer, size, inner) = sizes(around: axis)
    try require(size > 0, "argmax", expected: "at least one element along the axis", got: "shape \(shape)")
    var newShape = shape
    newShape.remove(at: axis)
    let result = try Tensor(uninitialized: newShape, .int32)
    fm_argmax(
      kernelType, source.pointer, result.pointer.assumingMemoryBound(to: Int32.self), Int64(outer), Int64(size),
      Int64(inner))
    withExtendedLifetime(source.storage) {}
    return result
  }

  /// Running sum along an axis; `reverse` runs from the end.
  public func cumulativeSum(axis: Int, reverse: Bool = false) throws -> Tensor {
    let axis = try self.axis(axis, "cumulativeSum")
    try requireSummable("cumulativeSum")
    let source = try detached.contiguous()
    let result = try Tensor(uninitialized: shape, dtype)
    let (outer, size, inner) = sizes(around: axis)
    fm_cumulative_sum(
      kernelType, source.pointer, result.pointer, Int64(outer), Int64(size), Int64(inner), reverse ? 1 : 0)
    withExtendedLifetime(source.storage) {}
    return Tensor.record("cumulativeSum", [self], output: result) {
      [try $0.cumulativeSum(axis: axis, reverse: !reverse)]
    }
  }

  /// Sums away what broadcasting to this tensor's shape repeated: the gradient of `broadcast`.
  package func summed(to target: [Int]) throws -> Tensor {
    if shape == target { return self }
    var result = self
    while result.rank > target.count { result = try result.sum(axis: 0) }
    for axis in 0..<target.count where target[axis] == 1 && result.shape[axis] != 1 {
      result = try result.sum(axis: axis, keepingAxis: true)
    }
    return result
  }

  /// e^x / Σ e^x over the last axis.
  public func softmax() throws -> Tensor {
    guard let width = shape.last, dtype.isFloatingPoint else {
      throw TensorError("softmax", expected: "a floating tensor with at least one axis", got: "\(self)")
    }
    // The backward takes differences of results, which bf16 would have rounded too much.
    if dtype == .bfloat16 { return try cast(to: .float32).softmax().cast(to: dtype) }
    let rows = width > 0 ? count / width : 0
    let source = try detached.contiguous()
    let y = try Tensor(uninitialized: shape, dtype)
    fm_softmax(kernelType, source.pointer, y.pointer, Int64(rows), Int64(width))
    Work.add(flops: 5 * count, bytes: 2 * byteCount)
    withExtendedLifetime(source.storage) {}
    return Tensor.record("softmax", [self], output: y) { gradient in
      let dy = try gradient.contiguous()
      let dx = try Tensor(uninitialized: y.shape, y.dtype)
      fm_softmax_backward(y.kernelType, y.pointer, dy.pointer, dx.pointer, Int64(rows), Int64(width))
      Work.add(flops: 4 * y.count, bytes: 3 * y.byteCount)
      withExtendedLifetime((y.storage, dy.storage)) {}
      return [dx]
    }
  }

  /// The same in simple operations: the oracle of the fused form.
  package func softmaxReference() throws -> Tensor {
    let wide = try cast(to: .float32)
    let powers = try (wide - wide.maximum(axis: -1, keepingAxis: true).detached).exp()
    return try (powers / powers.sum(axis: -1, keepingAxis: true)).cast(to: dtype)
  }

  /// x - log sum e^x over the last axis.
  public func logSoftmax() throws -> Tensor {
    let shifted = try self - maximum(axis: -1, keepingAxis: true).detached
    return try shifted - shifted.exp().sum(axis: -1, keepingAxis: true).log()
  }
}
