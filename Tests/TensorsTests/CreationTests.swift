import FermataTestSupport
import Testing

@testable import FermataTensors

@Suite struct CreationTests {
  @Test func valuesGoInAndOut() throws {
    #expect(try Tensor([1, 2, 3]).floats() == [1, 2, 3])
    #expect(try Tensor(7).item() == 7)
    #expect(try Tensor([Int64.max, .min], shape: [2]).values(as: Int64.self) == [.max, .min])
    #expect(try Tensor([UInt8(0), 255], shape: [2, 1]).values(as: UInt8.self) == [0, 255])
    #expect(try Tensor([Float](), shape: [3, 0]).floats() == [])
    #expect(try Tensor([Int32(5)], shape: []).shape == [])
    let copy = try Tensor([1.5, -2.25]).withBytes { Array($0.bindMemory(to: Float.self)) }
    #expect(copy == [1.5, -2.25])
  }

  @Test(arguments: DType.allCases) func filled(_ dtype: DType) throws {
    TestRun.prepare()
    for shape in [[], [0], [1], [3, 0, 2], [7, 9], [65], [3, 5, 67]] {
      let count = shape.reduce(1, *)
      #expect(try Tensor.full(shape, 3, dtype).cast(to: .float32).floats() == Array(repeating: 3, count: count))
      #expect(try Tensor.zeros(shape, dtype).cast(to: .float32).floats() == Array(repeating: 0, count: count))
      #expect(try Tensor.ones(shape, dtype).dtype == dtype)
    }
    #expect(try Tensor.range(100, from: 2, step: 1, dtype).cast(to: .float32).floats() == (2..<102).map(Float.init))
    #expect(try Tensor.range(0, dtype).shape == [0])
  }

  @Test func rangeHasSteps() throws {
    #expect(try Tensor.range(4, from: 1, step: -0.5, .float32).floats() == [1, 0.5, 0, -0.5])
    #expect(
      try Tensor.range(3, from: 5e9, .int64).values(as: Int64.self) == [5_000_000_000, 5_000_000_001, 5_000_000_002])
  }

  @Test func castsRoundTruncateAndSaturate() throws {
    let x = try Tensor([0, -0.9, 1.9, -1.9, 300, -300, 3e9, -3e9, 1e30, .infinity, -.infinity])
    #expect(
      try x.cast(to: .int32).values(as: Int32.self) == [0, 0, 1, -1, 300, -300, .max, .min, .max, .max, .min])
    #expect(
      try x.cast(to: .int64).values(as: Int64.self) == [
        0, 0, 1, -1, 300, -300, 3_000_000_000, -3_000_000_000, .max, .max, .min,
      ])
    #expect(try x.cast(to: .uint8).values(as: UInt8.self) == [0, 0, 1, 0, 255, 0, 255, 0, 255, 255, 0])
    var random = TestRandom()
    let wide = try random.tensor([1027], deviation: 100)
    #expect(try wide.cast(to: .bfloat16).floats() == wide.floats().map(roundedToBF16))
    let special: [Float] = [.nan, .infinity, -.infinity, .greatestFiniteMagnitude, -0.0, .leastNonzeroMagnitude]
    let narrow = try Tensor(special).cast(to: .bfloat16).floats()
    #expect(narrow[0].isNaN && narrow[1] == .infinity && narrow[2] == -.infinity && narrow[3] == .infinity)
    #expect(narrow[4] == 0 && narrow[4].sign == .minus)
    let large = try Tensor([Int64(1) << 40, -5], shape: [2])
    #expect(try large.cast(to: .int32).values(as: Int32.self) == [.max, -5])
    #expect(try large.cast(to: .float32).floats() == [1_099_511_627_776, -5])
  }

  @Test func badSizesThrow() throws {
    for shape in [[-1], [2, -3], [Int.max, 2], [1 << 40, 1 << 40], [0, .max, .max], [.max], [1 << 60]] {
      #expect(throws: TensorError.self, "\(shape)") { try Tensor.zeros(shape) }
      #expect(throws: TensorError.self, "\(shape)") { try Tensor.full(shape, 1, .uint8) }
      #expect(throws: TensorError.self, "\(shape)") { try Tensor([Float](), shape: shape) }
      var source = RandomSource(seed: 1)
      #expect(throws: TensorError.self, "\(shape)") { try source.normal(shape) }
    }
    #expect(throws: TensorError.self) { try Tensor([1, 2, 3] as [Float], shape: [2]) }
    #expect(throws: TensorError.self) { try Tensor.range(-1) }
    #expect(throws: TensorError.self) { try Tensor.range(.max, .int64) }
    #expect(throws: TensorError.self) { try Tensor([1, 2]).item() }
    #expect(throws: TensorError.self) { try Tensor([Float]()).item() }
  }

  @Test func errorsSayWhatToDo() throws {
    do {
      _ = try Tensor([1]) + Tensor([Int32(1)], shape: [1])
      Issue.record("two types were added")
    } catch let error as TensorError {
      #expect(error.description == "+: expected two tensors of one type, got float32 and int32; cast one of them")
    }
  }
}
