import CFermataKernels

extension Tensor {
  /// Rows of a table (rows, width) at indices (…): (…, width). Embedding lookup.
  /// The gradient adds rows in order of the indices, so it does not depend on threads.
  public func rows(at indices: Tensor) throws -> Tensor {
    try require(
      rank == 2 && indices.dtype == .int32, "rows(at:)", expected: "a table of 2 axes and I32 indices",
      got: "\(shape) and \(indices.dtype)")
    let table = try detached.contiguous()
    let wanted = try indices.detached.contiguous()
    let (height, width) = (shape[0], shape[1])
    let result = try Tensor(uninitialized: indices.shape + [width], dtype)
    let bad = fm_gather_rows(
      table.pointer, Int64(height), Int64(width * dtype.byteCount),
      wanted.pointer.assumingMemoryBound(to: Int32.self), Int64(wanted.count), result.pointer)
    withExtendedLifetime((table.storage, wanted.storage)) {}
    try require(
      bad < 0, "rows(at:)", expected: "indices in 0..<\(height)",
      got: "\((try? wanted.values(as: Int32.self)[Int(bad)]) ?? -1) at element \(bad)")
    Work.add(flops: 0, bytes: 2 * result.byteCount)
    return Tensor.record("rows", [self], output: result) { [dtype] gradient in
      [try Tensor.scatterAdd(gradient, at: wanted, rows: height).cast(to: dtype)]
    }
  }

  /// A table (rows, width) of zeros, f32, to which rows of values (…, width) are added at indices (…).
  public static func scatterAdd(_ values: Tensor, at indices: Tensor, rows: Int) throws -> Tensor {
    guard let width = values.shape.last, values.dtype.isFloatingPoint, indices.dtype == .int32,
      values.count == indices.count * width
    else {
      throw TensorError(
        "scatterAdd", expected: "floating values (…, width) and I32 indices (…)", got: "\(values) and \(indices)")
    }
    let highest = try indices.values(as: Int32.self)
    try require(
      highest.allSatisfy { $0 >= 0 && $0 < rows }, "scatterAdd", expected: "indices in 0..<\(rows)", got: "one outside")
    let result = try zeros([rows, width])
    let source = try values.detached.contiguous()
    let wanted = try indices.detached.contiguous()
    fm_scatter_add_rows(
      result.pointer.assumingMemoryBound(to: Float.self), Int64(rows), Int64(width), source.kernelType, source.pointer,
      wanted.pointer.assumingMemoryBound(to: Int32.self), Int64(wanted.count))
    withExtendedLifetime((source.storage, wanted.storage)) {}
    Work.add(flops: source.count, bytes: source.byteCount + 2 * source.count * 4)
    return result
  }
}
