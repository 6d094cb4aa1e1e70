import CFermataKernels
import Dispatch
import FermataTestSupport
import Synchronization
import Testing

@testable import FermataTensors

/// Products with weights that oneDNN's own order is kept of, against the same products with the weight as it lies.
@Suite struct ProductWeightTests {
  private static let sizes = [
    (32, 1, 1), (33, 3, 2), (32, 63, 65), (40, 64, 64), (65, 65, 63), (100, 100, 1), (33, 256, 100), (130, 96, 352),
    // Long inner axes, which a library may cut into blocks: forwards the inputs, backwards the outputs.
    (33, 353, 70), (40, 511, 33), (35, 701, 999), (32, 513, 1025), (65, 1200, 33), (33, 70, 1023), (32, 1031, 1),
  ]

  private static func plain(_ x: Tensor, _ weight: Tensor, output: DType) throws -> Tensor {
    try product(x, weight.cast(to: x.dtype).transposed(0, 1), output: output)
  }

  @Test(arguments: [DType.float32, .bfloat16], [DType.float32, .bfloat16])
  func sameBitsAsPlainProducts(_ dtype: DType, _ stored: DType) throws {
    var random = TestRandom("packed \(dtype) \(stored)")
    try onEveryPath { _ in
      for (rows, inputs, outputs) in Self.sizes {
        let weight = try random.tensor([outputs, inputs], stored)
        let packed = try ProductWeight(weight, rows: rows, dtype: dtype)
        let (x, dy) = (try random.tensor([rows, inputs], dtype), try random.tensor([rows, outputs], dtype))
        let label = "\(stored) for \(dtype) \(rows)×\(inputs)×\(outputs)"
        for output in Set([dtype, .float32]) {
          for _ in 0..<2 {
            try expectSameBits(
              packed.forward(x, output: output), Self.plain(x, weight, output: output), "x Wᵀ \(label)")
            try expectSameBits(
              packed.backward(dy, output: output), product(dy, weight.cast(to: dtype), output: output), "dy W \(label)")
          }
        }
      }
    }
  }

  @Test func threadsDoNotMatter() throws {
    var random = TestRandom()
    for dtype in [DType.float32, .bfloat16] {
      let (x, weight) = (try random.tensor([130, 96], dtype), try random.tensor([352, 96]))
      // The copy that one number of threads packed is read by the others.
      let packed = try ProductWeight(weight, rows: 130, dtype: dtype)
      try expectThreadsDoNotMatter("packed \(dtype)") { [try packed.forward(x, output: dtype)] }
    }
  }

  @Test func changedWeightsArePackedAgain() throws {
    var random = TestRandom()
    for dtype in [DType.float32, .bfloat16] {
      let x = try random.tensor([64, 96], dtype)
      var weight = try random.tensor([352, 96])
      func forward(_ weight: Tensor) throws -> Tensor {
        try ProductWeight(weight, rows: 64, dtype: dtype).forward(x, output: dtype)
      }
      func add(_ value: Float) throws {
        try weight.withMutableBytes { bytes in
          for index in 0..<352 * 96 { bytes.bindMemory(to: Float.self)[index] += value }
        }
      }
      let first = try forward(weight)
      // In place, as an optimiser does.
      try add(0.5)
      let second = try forward(weight)
      try expectSameBits(second, Self.plain(x, weight, output: dtype), "changed in place")
      #expect(try first.floats() != second.floats())
      // A copy keeps what it had.
      let kept = weight
      try add(0.25)
      try expectSameBits(forward(kept), second, "the copy")
      try expectSameBits(forward(weight), Self.plain(x, weight, output: dtype), "the changed one")
    }
  }

  @Test func partsOfOneStorageArePackedApart() throws {
    var random = TestRandom()
    let joined = try random.tensor([3 * 64, 96])
    let x = try random.tensor([40, 96], .bfloat16)
    for start in [0, 64, 128] {
      let part = try joined.slice(start..<start + 64, axis: 0)
      let packed = try ProductWeight(part, rows: 40, dtype: .bfloat16)
      try expectSameBits(packed.forward(x, output: .bfloat16), Self.plain(x, part, output: .bfloat16), "rows \(start)")
    }
    let columns = try joined.slice(0..<32, axis: 1)
    let y = try random.tensor([40, 32])
    let view = try ProductWeight(columns, rows: 40, dtype: .float32)
    try expectSameBits(view.forward(y, output: .float32), Self.plain(y, columns, output: .float32), "a view with gaps")
  }

  /// Memory counts what is packed, and has it back after a product of few rows and with the weight.
  @Test func packedCopiesAreCountedAndDropped() throws {
    var random = TestRandom()
    let many = try random.tensor([64, 256], .bfloat16)
    let one = try many.slice(0..<1, axis: 0)
    let values = [Float](repeating: 0.5, count: 512 * 256)
    let bytes = 512 * 256 * 2
    let whole = try Memory.measure {
      let weight = try Tensor(values, shape: [512, 256])
      func left(_ x: Tensor) throws -> Int {
        try Memory.measure {
          _ = try ProductWeight(weight, rows: x.shape[0], dtype: .bfloat16).forward(x, output: .bfloat16)
        }.left
      }
      let packed = try left(many)
      // Nothing is packed twice.
      #expect(try left(many) == 0)
      #expect(try left(one) == -packed)
      return packed
    }
    #expect(whole.left == 0)
    // A processor whose oneDNN has no order of its own packs nothing.
    #expect(whole.result == 0 || (whole.result >= bytes && whole.result < bytes + bytes / 3), "\(whole.result)")
  }

  /// A weight in a mapped file is packed for a product at a time: nothing of it is left.
  @Test func borrowedWeightsArePackedInPassing() throws {
    final class Owner {}
    var random = TestRandom()
    let (x, own) = (try random.tensor([64, 256], .bfloat16), try random.tensor([512, 256], .bfloat16))
    let storage = Storage(
      borrowing: UnsafeMutableRawPointer(own.pointer), byteCount: own.byteCount, owner: Owner())
    let borrowed = Tensor(storage: storage, shape: [512, 256], dtype: .bfloat16)
    try withExtendedLifetime(own) {
      let expected = try Self.plain(x, own, output: .bfloat16)
      let (result, _, left) = try Memory.measure {
        try ProductWeight(borrowed, rows: 64, dtype: .bfloat16).forward(x, output: .bfloat16)
      }
      try expectSameBits(result, expected, "borrowed")
      #expect(left == 64 * 512 * 2)
    }
  }

  @Test func severalThreadsMayAsk() throws {
    var random = TestRandom()
    let (x, weight) = (try random.tensor([64, 96], .bfloat16), try random.tensor([352, 96]))
    let expected = try Self.plain(x, weight, output: .bfloat16)
    let failures = Mutex<[String]>([])
    DispatchQueue.concurrentPerform(iterations: 24) { index in
      do {
        let rows = index % 3 == 2 ? 1 : 64
        let part = try x.slice(0..<rows, axis: 0)
        let y = try ProductWeight(weight, rows: rows, dtype: .bfloat16).forward(part, output: .bfloat16)
        if rows == 64 { try expectSameBits(y, expected, "call \(index)") }
      } catch { failures.withLock { $0.append("\(error)") } }
    }
    #expect(failures.withLock { $0 } == [])
  }

  @Test func primitivesAreMadeOnce() throws {
    let holds = try holdsOnce {
      func step() throws {
        let weight = try Tensor.ones([160, 96])
        let x = try Tensor.ones([48, 96], .bfloat16)
        let packed = try ProductWeight(weight, rows: 48, dtype: .bfloat16)
        _ = try packed.backward(packed.forward(x, output: .bfloat16), output: .bfloat16)
      }
      try step()
      let before = fm_product_primitives_created()
      for _ in 0..<5 { try step() }
      return fm_product_primitives_created() == before
    }
    #expect(holds)
  }

  @Test func wrongShapesThrow() throws {
    let weight = try Tensor.ones([8, 6])
    let packed = try ProductWeight(weight, rows: 40, dtype: .float32)
    let wrong: [() throws -> Tensor] = [
      { try packed.forward(Tensor.ones([40, 8]), output: .float32) },
      { try packed.backward(Tensor.ones([40, 6]), output: .float32) },
      { try packed.forward(Tensor.ones([40, 6], .bfloat16), output: .bfloat16) },
      { try packed.forward(Tensor.ones([40, 6]), output: .bfloat16) },
      {
        try ProductWeight(Tensor.ones([6]), rows: 40, dtype: .float32).forward(Tensor.ones([40, 6]), output: .float32)
      },
      {
        try ProductWeight(Tensor.ones([8, 6], .int32), rows: 1, dtype: .float32).forward(weight, output: .float32)
      },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
  }
}
