import FermataTestSupport
import Foundation
import Testing

@testable import FermataTensors

@Suite struct ReductionTests {
  private static let shapes: [[Int]] = [
    [1], [2], [3], [63], [64], [65], [1000], [3, 65], [65, 3], [2, 7, 33], [5, 1, 4], [0, 4], [4, 0], [1, 257],
    [300, 2],
  ]

  @Test(arguments: [DType.float32, .bfloat16, .int32, .int64]) func sumsMaximaAndIndices(_ dtype: DType) throws {
    var random = TestRandom("reductions \(dtype)")
    let tolerance = dtype.isFloatingPoint ? Tolerance.product(dtype) : .exact
    try onEveryPath { path in
      for shape in Self.shapes {
        // Around 2, so that sums do not nearly cancel.
        let x =
          dtype.isFloatingPoint ? try random.tensor(shape, dtype, mean: 2) : try random.integers(shape, -50...50, dtype)
        let naive = try Naive(x)
        for axis in shape.indices {
          let label = "\(dtype) \(shape) axis \(axis)"
          let sum = naive.reduced(axis: axis) { $0.reduce(0, +) }
          try expectClose(x.sum(axis: axis), sum, tolerance, "sum \(label)")
          try expectClose(
            x.sum(axis: axis - shape.count, keepingAxis: true),
            sum.reshaped(x.sum(axis: axis, keepingAxis: true).shape), tolerance, label)
          if shape[axis] > 0 {
            try expectClose(
              x.maximum(axis: axis), naive.reduced(axis: axis) { $0.max() ?? .nan }, .exact, "maximum \(label)")
            let first = naive.reduced(axis: axis) { line in
              Double(line.firstIndex(of: line.max() ?? 0) ?? -1)
            }
            try expectClose(x.argmax(axis: axis), first, .exact, "argmax \(label)")
          }
          for reverse in [false, true] {
            let running = naive.lines(axis: axis) { line in
              var total = 0.0
              let sums = (reverse ? line.reversed() : line).map { (value: Double) -> Double in
                total += value
                return total
              }
              return reverse ? sums.reversed() : sums
            }
            try expectClose(x.cumulativeSum(axis: axis, reverse: reverse), running, tolerance, "cumulativeSum \(label)")
          }
        }
        try expectClose(x.sum().reshaped([1]), Naive([1], [naive.values.reduce(0, +)]), tolerance, "\(dtype) \(shape)")
      }
    }
  }

  @Test func sumsOfManyNumbersStayExact() throws {
    var random = TestRandom()
    let x = try random.uniform([300_001], 0, 1)
    let exact = try x.floats().reduce(0.0) { $0 + Double($1) }
    #expect(abs(Double(try x.sum().item()) - exact) < 1e-6 * exact)
    #expect(try Tensor.ones([300_000], .bfloat16).sum().item() == roundedToBF16(300_000))
    #expect(abs(try x.mean().item() - 0.5) < 0.01)
    try expectThreadsDoNotMatter("sum") {
      [try x.sum(), try x.slice(0..<300_000, axis: 0).reshaped([3000, 100]).sum(axis: 0)]
    }
  }

  @Test func stridedInputsAndMeans() throws {
    var random = TestRandom()
    let x = try random.tensor([4, 6, 5]).transposed([2, 0, 1]).slice(1..<4, axis: 2)
    let naive = try Naive(x)
    try expectClose(x.mean(axis: 1), naive.reduced(axis: 1) { $0.reduce(0, +) / 4 }, .product(.float32))
    let wide = try x.slice(0..<1, axis: 0).broadcast(to: [7, 4, 3])
    try expectClose(wide.sum(axis: 0), Naive(wide).reduced(axis: 0) { $0.reduce(0, +) }, .product(.float32))
    try expectClose(x.maximum(axis: -1, keepingAxis: true), naive.reduced(axis: 2, keepingAxis: true) { $0.max() ?? 0 })
  }

  @Test func softmaxSurvivesLargeNumbers() throws {
    let x = try Tensor([1000, 1001, -1000, 0, 0, -1e30] as [Float], shape: [2, 3])
    let e = Foundation.exp(1.0)
    let expected = [1 / (1 + e), e / (1 + e), 0, 0.5, 0.5, 0]
    try expectClose(x.softmax(), Naive([2, 3], expected), .elementwise(.float32))
    let logs = try x.logSoftmax().floats()
    #expect(abs(Double(logs[0]) + Foundation.log(1 + e)) < 1e-5 && abs(logs[4] + 0.6931472) < 1e-6)
  }

  @Test func wrongAxesAndTypesThrow() throws {
    let x = try Tensor.zeros([2, 3])
    let flags = try Tensor.zeros([5], .uint8)
    let wrong: [() throws -> Tensor] = [
      { try x.sum(axis: 2) }, { try x.sum(axis: -3) }, { try x.mean(axis: .max) }, { try x.maximum(axis: 7) },
      { try x.argmax(axis: 2) }, { try x.cumulativeSum(axis: -3) }, { try Tensor(1).sum(axis: 0) },
      { try Tensor.zeros([3, 0]).argmax(axis: 1) }, { try flags.sum(axis: 0) }, { try flags.maximum(axis: 0) },
      { try flags.argmax(axis: 0) }, { try flags.cumulativeSum(axis: 0) }, { try Tensor(1).softmax() },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
  }
}
