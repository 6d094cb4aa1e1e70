import CFermataKernels

/// Products of matrices: a (…, rows, inner) by b (…, inner, columns), batch axes broadcast.
/// Transposed operands are views: oneDNN reads them where they lie.
public func matmul(_ a: Tensor, _ b: Tensor) throws -> Tensor {
  let result = try product(a, b, output: a.dtype)
  let (x, y) = (a.detached, b.detached)
  let (wantsX, wantsY) = (a.isTracked, b.isTracked)
  return Tensor.record("matmul", [a, b], output: result) { gradient in
    [
      wantsX ? try product(gradient, y.transposed(-1, -2), output: x.dtype).summed(to: x.shape) : nil,
      wantsY ? try product(x.transposed(-1, -2), gradient, output: y.dtype).summed(to: y.shape) : nil,
    ]
  }
}

/// A product without history, with a chosen output type (f32 out of bf16 operands for weight gradients).
package func product(_ a: Tensor, _ b: Tensor, output: DType) throws -> Tensor {
  try require(
    a.rank >= 2 && b.rank >= 2 && a.shape[a.rank - 1] == b.shape[b.rank - 2], "matmul",
    expected: "shapes (…, rows, inner) and (…, inner, columns)", got: "\(a.shape) and \(b.shape)")
  try require(
    a.dtype == b.dtype && a.dtype.isFloatingPoint && (output == a.dtype || output == .float32), "matmul",
    expected: "two F32 or two BF16 tensors", got: "\(a.dtype) and \(b.dtype) into \(output)", advice: "cast one of them"
  )
  let batchShape = try Tensor.broadcastShape(Array(a.shape.dropLast(2)), Array(b.shape.dropLast(2)), "matmul")
  let (rows, inner, columns) = (a.shape[a.rank - 2], a.shape[a.rank - 1], b.shape[b.rank - 1])
  let result = try Tensor(uninitialized: batchShape + [rows, columns], output)
  if result.count == 0 { return result }
  if inner == 0 { return try Tensor.zeros(result.shape, output) }
  try multiply(a, b, batchShape, into: result, accumulate: false)
  return result
}

/// result += a b for matrices; result is f32, contiguous, and the caller's own.
func addProduct(_ a: Tensor, _ b: Tensor, into result: Tensor) throws {
  try require(
    a.rank == 2 && b.rank == 2 && a.shape[1] == b.shape[0] && result.shape == [a.shape[0], b.shape[1]]
      && a.dtype == b.dtype && result.dtype == .float32 && result.isContiguous,
    "addProduct", expected: "matrices that fit", got: "\(a), \(b) into \(result)")
  if a.count == 0 || b.count == 0 { return }
  try multiply(a, b, [], into: result, accumulate: true)
}

private func multiply(_ a: Tensor, _ b: Tensor, _ batchShape: [Int], into result: Tensor, accumulate: Bool) throws {
  let (rows, inner, columns) = (a.shape[a.rank - 2], a.shape[a.rank - 1], b.shape[b.rank - 1])
  let left = try a.productOperand(batch: batchShape)
  let right = try b.productOperand(batch: batchShape)
  let batch = batchShape.reduce(1, *)
  var shape = fm_product_shape()
  shape.input_type = a.kernelType
  shape.output_type = result.kernelType
  shape.batch = Int64(batch)
  shape.rows = Int64(rows)
  shape.inner = Int64(inner)
  shape.columns = Int64(columns)
  shape.a_stride = left.strides3
  shape.b_stride = right.strides3
  shape.c_stride = (Int64(rows * columns), Int64(columns), 1)
  shape.accumulate = accumulate ? 1 : 0
  let status = fm_product(&shape, left.pointer, right.pointer, result.pointer)
  withExtendedLifetime((left.storage, right.storage)) {}
  try require(
    status == 0, "matmul", expected: "a product that oneDNN accepts",
    got: "status \(status) for \(a.shape) by \(b.shape)")
  Work.add(flops: 2 * batch * rows * inner * columns, bytes: left.byteCount + right.byteCount + result.byteCount)
}

extension Tensor {
  /// This operand as (batch, m, n) with one unit stride among the last two and one stride for the whole batch.
  fileprivate func productOperand(batch: [Int]) throws -> Tensor {
    var operand = self.detached
    let last = rank - 1
    let unit =
      (operand.strides[last] == 1 && operand.strides[last - 1] >= operand.shape[last])
      || (operand.strides[last - 1] == 1 && operand.strides[last] >= operand.shape[last - 1])
    if !unit { operand = try operand.contiguousCopy() }
    let matrix = Array(shape.suffix(2))
    let count = batch.reduce(1, *)
    let lead = Array(operand.shape.dropLast(2))
    if lead.allSatisfy({ $0 == 1 }) {
      return Tensor(
        storage: operand.storage, offset: operand.offset, shape: [count] + matrix,
        strides: [0] + operand.strides.suffix(2), dtype: dtype)
    }
    var view = try operand.broadcast(to: batch + matrix)
    if let step = view.uniformStride(axes: batch.count) {
      return Tensor(
        storage: view.storage, offset: view.offset, shape: [count] + matrix, strides: [step] + view.strides.suffix(2),
        dtype: dtype)
    }
    view = try view.contiguousCopy()
    return try view.reshaped([count] + matrix)
  }

  /// A row-major copy even where strides of single-element axes would count as contiguous.
  private func contiguousCopy() throws -> Tensor { try copied(to: dtype) }

  /// The stride that walks the leading axes as one, if there is one.
  private func uniformStride(axes: Int) -> Int? {
    var step: Int?
    var expected = 0
    for axis in Swift.stride(from: axes - 1, through: 0, by: -1) where shape[axis] != 1 {
      if step == nil {
        step = strides[axis]
        expected = strides[axis]
      }
      if strides[axis] != expected { return nil }
      expected *= shape[axis]
    }
    return step ?? 0
  }
}
