import FermataTestSupport
import Testing

@testable import FermataTensors

@Suite struct ProductTests {
  @Test(arguments: [DType.float32, .bfloat16]) func matricesOfEverySize(_ dtype: DType) throws {
    var random = TestRandom("matmul \(dtype)")
    let sizes = [
      (1, 1, 1), (1, 3, 2), (3, 1, 2), (2, 3, 1), (63, 64, 65), (65, 63, 64), (100, 1, 100), (1, 100, 1), (7, 100, 33),
      (0, 3, 2), (2, 0, 3), (2, 3, 0),
    ]
    try onEveryPath { path in
      for (rows, inner, columns) in sizes {
        let (a, b) = (try random.tensor([rows, inner], dtype), try random.tensor([inner, columns], dtype))
        let (x, y) = (try Naive(a), try Naive(b))
        let label = "\(dtype) \(rows)×\(inner)×\(columns)"
        try expectClose(matmul(a, b), Naive.matmul(x, y), .product(dtype), label)
        if dtype == .bfloat16 {
          try expectClose(product(a, b, output: .float32), Naive.matmul(x, y), .product(.float32), "\(label) into F32")
        }
        let (s, t) = (try a.transposed(0, 1), try b.transposed(0, 1))
        try expectClose(matmul(t, s), Naive.matmul(x, y).transposed([1, 0]), .product(dtype), "\(label) transposed")
      }
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func batchesBroadcast(_ dtype: DType) throws {
    var random = TestRandom("batches \(dtype)")
    let cases: [([Int], [Int])] = [
      ([3, 4, 5], [3, 5, 2]), ([3, 4, 5], [5, 2]), ([4, 5], [3, 5, 2]), ([2, 1, 4, 5], [1, 3, 5, 2]),
      ([2, 3, 4, 5], [3, 5, 2]),
      ([2, 3, 4, 5], [2, 1, 5, 2]), ([1, 1, 1], [6, 1, 1]), ([2, 1, 5], [2, 5, 1]), ([1, 1, 3, 1], [2, 2, 1, 3]),
      ([0, 2, 3], [3, 4]),
    ]
    for (a, b) in cases {
      let (x, y) = (try random.tensor(a, dtype), try random.tensor(b, dtype))
      try expectClose(matmul(x, y), Naive.matmul(Naive(x), Naive(y)), .product(dtype), "\(dtype) \(a) \(b)")
    }
  }

  /// Operands as attention makes them: heads swapped, sliced, broadcast, with leading axes that are no single stride.
  @Test(arguments: [DType.float32, .bfloat16]) func viewsAreReadWhereTheyLie(_ dtype: DType) throws {
    var random = TestRandom("views \(dtype)")
    let base = try random.tensor([2, 5, 3, 8], dtype)
    let heads = try base.transposed([0, 2, 1, 3])
    let keys = try base.transposed([0, 2, 3, 1])
    let grouped = try base.slice(0..<1, axis: 2).transposed([0, 2, 1, 3]).broadcast(to: [2, 3, 5, 8])
    let views: [(String, Tensor, Tensor)] = [
      ("heads", heads, keys), ("grouped", heads, try grouped.transposed(-1, -2)),
      ("sliced", try heads.slice(2..<7, axis: 3), try keys.slice(2..<7, axis: 2)),
      ("strided", try heads.slice(1..<3, axis: 1), try keys.slice(0..<2, axis: 1)),
      ("one row", try heads.slice(4..<5, axis: 2), keys), ("one column", heads, try keys.slice(0..<1, axis: 3)),
      ("inner one", try heads.slice(3..<4, axis: 3), try keys.slice(3..<4, axis: 2)),
      (
        "all equal", try random.tensor([1, 1], dtype).broadcast(to: [4, 6]),
        try random.tensor([6, 1], dtype).broadcast(to: [6, 3])
      ),
      (
        "repeated rows", try random.tensor([1, 6], dtype).broadcast(to: [4, 6]),
        try random.tensor([1, 3], dtype).broadcast(to: [6, 3])
      ),
      ("outer axes swapped", try base.transposed([1, 0, 2, 3]), try base.transposed([1, 0, 3, 2])),
      ("strange strides", try base.transposed([3, 1, 2, 0]), try base.transposed([3, 1, 0, 2])),
    ]
    for (name, a, b) in views {
      try expectClose(matmul(a, b), Naive.matmul(Naive(a), Naive(b)), .product(dtype), "\(name) \(dtype)")
    }
  }

  @Test func sumsOfProductsAccumulate() throws {
    var random = TestRandom()
    for dtype in [DType.float32, .bfloat16] {
      let (a, b) = (try random.tensor([33, 17], dtype), try random.tensor([17, 9], dtype))
      let total = try Tensor.ones([33, 9])
      try total.accumulateProduct(a, b)
      try total.accumulateProduct(a, b)
      let once = try Naive.matmul(Naive(a), Naive(b))
      try expectClose(total, Naive(once.shape, once.values.map { 1 + 2 * $0 }), .product(.float32), "\(dtype)")
      try total.accumulateProduct(Tensor.zeros([33, 0], dtype), Tensor.zeros([0, 9], dtype))
      try expectClose(total, Naive(once.shape, once.values.map { 1 + 2 * $0 }), .product(.float32), "\(dtype)")
    }
  }

  @Test func threadsDoNotChangeProducts() throws {
    var random = TestRandom()
    for dtype in [DType.float32, .bfloat16] {
      let (a, b) = (try random.tensor([130, 70], dtype), try random.tensor([70, 90], dtype))
      try expectThreadsDoNotMatter("matmul \(dtype)") { [try matmul(a, b)] }
    }
  }

  @Test func wrongOperandsThrow() throws {
    let x = try Tensor.zeros([2, 3])
    let wrong: [() throws -> Tensor] = [
      { try matmul(x, x) }, { try matmul(x, Tensor.zeros([3])) }, { try matmul(Tensor.zeros([3]), x) },
      { try matmul(x, Tensor.zeros([3, 2], .bfloat16)) },
      { try matmul(x.cast(to: .int32), Tensor.zeros([3, 2], .int32)) },
      { try matmul(Tensor.zeros([2, 2, 3]), Tensor.zeros([3, 3, 2])) },
      { try product(x, Tensor.zeros([3, 2]), output: .bfloat16) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
    #expect(throws: TensorError.self) { try x.accumulateProduct(x, x) }
  }
}
