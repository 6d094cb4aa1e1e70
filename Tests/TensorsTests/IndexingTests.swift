import FermataTestSupport
import Testing

@testable import FermataTensors

@Suite struct IndexingTests {
  @Test(arguments: DType.allCases) func rowsAreGathered(_ dtype: DType) throws {
    var random = TestRandom("gather \(dtype)")
    for width in [0, 1, 3, 65] {
      let table = try random.integers([7, width], 0...100, dtype)
      let naive = try Naive(table)
      for shape in [[], [1], [0], [63], [2, 5]] {
        let indices = try random.integers(shape, 0...6)
        let ids = try indices.values(as: Int32.self).map(Int.init)
        let expected = ids.flatMap { id in (0..<width).map { naive[[id, $0]] } }
        try expectClose(
          table.rows(at: indices), Naive(shape + [width], expected), .exact, "\(dtype) \(shape) of \(width)")
      }
    }
    let strided = try random.integers([4, 9], 0...100, dtype).transposed(0, 1)
    let reversed = try Tensor.range(9, from: 8, step: -1)
    #expect(try Naive(strided.rows(at: reversed)).values == Naive(strided).values.chunks(4).reversed().flatMap { $0 })
  }

  @Test(arguments: [DType.float32, .bfloat16]) func rowsAreAddedInOrder(_ dtype: DType) throws {
    var random = TestRandom("scatter \(dtype)")
    for (rows, count, width) in [(1, 1, 1), (5, 300, 3), (64, 65, 33), (3, 0, 4), (2, 5, 0)] {
      let values = try random.tensor([count, width], dtype)
      let indices = try random.integers([count], 0...rows - 1)
      let (ids, naive) = (try indices.values(as: Int32.self), try Naive(values))
      var expected = [Float](repeating: 0, count: rows * width)
      for (row, id) in ids.enumerated() {
        for column in 0..<width { expected[Int(id) * width + column] += Float(naive[[row, column]]) }
      }
      let result = try Tensor.scatterAdd(values, at: indices, rows: rows)
      try expectClose(result, Tensor(expected, shape: [rows, width]), .exact, "\(dtype) \(rows) \(count) \(width)")
      try expectThreadsDoNotMatter("scatter") { [try Tensor.scatterAdd(values, at: indices, rows: rows)] }
    }
  }

  @Test func badIndicesThrow() throws {
    let table = try Tensor.zeros([3, 2])
    func indices(_ values: Int32...) throws -> Tensor { try Tensor(values, shape: [values.count]) }
    let wrong: [() throws -> Tensor] = [
      { try table.rows(at: indices(0, 3)) }, { try table.rows(at: indices(-1)) },
      { try table.rows(at: indices(.max, .min)) },
      { try table.rows(at: Tensor.zeros([1], .int64)) }, { try Tensor.zeros([3]).rows(at: indices(0)) },
      { try Tensor.zeros([0, 2]).rows(at: indices(0)) },
      { try Tensor.scatterAdd(table, at: indices(0, 1, 2), rows: 2) },
      { try Tensor.scatterAdd(table, at: indices(0, 1), rows: 3) },
      { try Tensor.scatterAdd(table, at: indices(0, -1, 1), rows: 3) },
      { try Tensor.scatterAdd(table.cast(to: .int32), at: indices(0, 1, 2), rows: 3) },
      { try Tensor.scatterAdd(Tensor.zeros([0, 2]), at: Tensor.zeros([0], .int32), rows: -1) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
    do {
      _ = try table.rows(at: indices(1, 2, 9))
      Issue.record("index 9 of 3 rows was read")
    } catch let error as TensorError {
      #expect(error.got == "9 at element 2")
    }
  }
}

extension Array {
  fileprivate func chunks(_ size: Int) -> [[Element]] {
    stride(from: 0, to: count, by: size).map { Array(self[$0..<Swift.min($0 + size, count)]) }
  }
}
