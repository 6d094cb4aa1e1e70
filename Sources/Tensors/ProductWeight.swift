import CFermataKernels
import Synchronization

/// A weight (outputs, inputs) as the right side of products x Wᵀ and dy W, in the type of x.
///
/// For many rows the products read W in the order of elements that oneDNN likes best. W is brought into that order, and into
/// the type of x, in one pass; the packed copy stays with W's storage and serves all pieces, accumulated batches and the
/// backward until W changes. A weight that lies in a mapped file is packed for one product at a time, so that reading a prompt
/// does not take a checkpoint's size again. For few rows, as in decoding token by token, W is read as it lies, and packed
/// copies that an earlier prompt left are dropped. All ways give the same bits.
package struct ProductWeight: Sendable {
  /// Fewest rows for which packing pays: below, it takes longer than it saves.
  package static let fewestRows = 32

  private enum Form {
    /// In the type of the products.
    case plain(Tensor)
    /// As it is, to be packed.
    case packable(Tensor)
  }
  private let form: Form
  private let dtype: DType

  /// - Parameter rows: of the left sides to come.
  package init(_ weight: Tensor, rows: Int, dtype: DType) throws {
    try require(
      weight.rank == 2 && weight.dtype.isFloatingPoint && dtype.isFloatingPoint, "product",
      expected: "a floating weight (outputs, inputs) and a floating type", got: "\(weight) and \(dtype)")
    self.dtype = dtype
    if rows >= Self.fewestRows, weight.isContiguous, weight.count > 0 {
      form = .packable(weight.detached)
    } else {
      weight.storage.packed.drop()
      form = .plain(try weight.detached.cast(to: dtype))
    }
  }

  /// x Wᵀ for x (rows, inputs).
  package func forward(_ x: Tensor, output: DType) throws -> Tensor { try apply(x, isTransposed: true, output) }

  /// dy W for dy (rows, outputs).
  package func backward(_ dy: Tensor, output: DType) throws -> Tensor { try apply(dy, isTransposed: false, output) }

  private func apply(_ x: Tensor, isTransposed: Bool, _ output: DType) throws -> Tensor {
    switch form {
    case .plain(let weight):
      return try product(x, isTransposed ? weight.transposed(0, 1) : weight, output: output)
    case .packable(let weight):
      if let result = try packedProduct(x, weight, isTransposed, output) { return result }
      let matrix = try weight.cast(to: dtype)
      return try product(x, isTransposed ? matrix.transposed(0, 1) : matrix, output: output)
    }
  }

  /// nil where oneDNN would rather read the weight as it lies.
  private func packedProduct(_ x: Tensor, _ weight: Tensor, _ isTransposed: Bool, _ output: DType) throws -> Tensor? {
    let view = isTransposed ? try weight.transposed(0, 1) : weight
    try require(
      x.rank == 2 && x.shape[1] == view.shape[0] && x.dtype == dtype && (output == dtype || output == .float32),
      "product",
      expected: "\(dtype) rows of \(view.shape[0])", got: "\(x) into \(output)")
    var matrix = fm_packed_matrix(
      type: dtype.kernelType, source_type: weight.kernelType, inner: Int64(view.shape[0]),
      columns: Int64(view.shape[1]), row_stride: Int64(view.strides[0]), column_stride: Int64(view.strides[1]))
    guard let packed = try weight.storage.packed.copy(of: view, matrix, kept: !weight.storage.isBorrowed) else {
      return nil
    }
    let rows = try x.detached.contiguous()
    let result = try Tensor(uninitialized: [rows.shape[0], view.shape[1]], output)
    let status = fm_product_packed(
      &matrix, Int64(rows.shape[0]), rows.pointer, packed.pointer, result.kernelType, result.pointer)
    withExtendedLifetime((rows.storage, packed)) {}
    try require(
      status == 0, "product", expected: "a product that oneDNN accepts",
      got: "status \(status) for \(x.shape) by \(view.shape), packed")
    Work.add(
      flops: 2 * result.count * view.shape[0], bytes: rows.byteCount + packed.byteCount + result.byteCount)
    return result
  }
}

extension Tensor {
  /// Gives back the packed copies of this tensor's memory.
  package func dropPackedCopies() { storage.packed.drop() }
}

/// The packed copies of one storage's elements, made when first asked for. Any number of threads may ask.
package struct PackedCopies: ~Copyable, Sendable {
  private struct Key: Hashable {
    let type: fm_type.RawValue
    let offset: Int
    let shape: [Int]
    let strides: [Int]
  }

  private let copies = Mutex<[Key: Storage]>([:])
  /// Whether there may be some: asked at every token, so without the lock.
  private let hasAny = Atomic<Bool>(false)

  /// nil where packing brings nothing, or would take memory that others need.
  func copy(of view: Tensor, _ matrix: fm_packed_matrix, kept: Bool) throws -> Storage? {
    var matrix = matrix
    let bytes = Int(fm_packed_bytes(&matrix))
    guard bytes > 0 else { return nil }
    let key = Key(type: matrix.type.rawValue, offset: view.offset, shape: view.shape, strides: view.strides)
    if !kept { return Memory.hasRoomToSpare(for: bytes) ? try Self.packed(view, &matrix, bytes) : nil }
    return try copies.withLock { copies in
      if let packed = copies[key] { return packed }
      guard Memory.hasRoomToSpare(for: bytes) else { return nil }
      let packed = try Self.packed(view, &matrix, bytes)
      copies[key] = packed
      hasAny.store(true, ordering: .relaxed)
      return packed
    }
  }

  private static func packed(_ view: Tensor, _ matrix: inout fm_packed_matrix, _ bytes: Int) throws -> Storage {
    let packed = try Storage(byteCount: bytes)
    let status = fm_pack(&matrix, view.pointer, packed.pointer)
    try require(
      status == 0, "product", expected: "a weight that oneDNN packs", got: "status \(status) for \(view.shape)")
    Work.add(flops: 0, bytes: view.byteCount + bytes)
    return packed
  }

  /// Forgets all of them.
  func drop() {
    guard hasAny.load(ordering: .relaxed), hasAny.exchange(false, ordering: .relaxed) else { return }
    let dropped = copies.withLock { copies in
      defer { copies = [:] }
      return copies
    }
    withExtendedLifetime(dropped) {}
  }
}
