import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataLayers

@Suite struct LinearTests {
  private static let sizes = [(1, 1, 1), (2, 3, 1), (63, 64, 65), (65, 2, 100), (100, 63, 3), (0, 4, 5)]

  @Test(arguments: [DType.float32, .bfloat16]) func matchesSimpleOperations(_ dtype: DType) throws {
    var random = TestRandom("linear \(dtype)")
    try onEveryPath { path in
      for (rows, inputs, outputs) in Self.sizes {
        let x = try random.tensor([rows, inputs], dtype)
        let weight = try random.tensor([outputs, inputs], deviation: 1 / Double(inputs).squareRoot())
        let bias = try random.tensor([outputs])
        let seed = try random.tensor([rows, outputs], dtype)
        func run(_ body: (Tensor, Tensor, Tensor) throws -> Tensor) throws -> [Tensor] {
          let leaves = [x.tracked(), weight.tracked(), bias.tracked()]
          let y = try body(leaves[0], leaves[1], leaves[2])
          let found = try gradients(of: [(y, seed.cast(to: y.dtype))])
          return try [y.detached] + leaves.map { try found[$0] ?? Tensor.zeros($0.shape, $0.dtype) }
        }
        let fused = try run { try linear($0, weight: $1, bias: $2) }
        // The oracle works in f32 on the operands as the product sees them.
        let simple = try run { x, weight, bias in
          let (w, b) = (try weight.cast(to: dtype).cast(to: .float32), try bias.cast(to: dtype).cast(to: .float32))
          return try matmul(x.cast(to: .float32), w.transposed(0, 1)) + b
        }
        let label = "\(dtype) \(rows)×\(inputs)×\(outputs)"
        #expect(fused[0].dtype == dtype)
        #expect(fused[1].dtype == dtype)
        // Master weights get their gradient in f32, straight from the product.
        #expect(fused[2].dtype == .float32)
        // In bf16 the product is rounded before the bias comes, which may cancel it.
        let output = dtype == .bfloat16 ? Tolerance(ratio: 6e-3, floor: 4e-3) : .fused(dtype)
        try expectClose(fused[0].cast(to: .float32), simple[0], output, "y \(label)")
        try expectClose(fused[1], simple[1], .fusedGradient(dtype), "dx \(label)")
        try expectClose(fused[3], simple[3], .fusedGradient(dtype), "dbias \(label)")
        let exact = try matmul(seed.cast(to: .float32).transposed(0, 1), x.cast(to: .float32))
        try expectClose(fused[2], exact, .product(.float32), "dW \(label)")
      }
    }
  }

  @Test func gradientsByDifferences() throws {
    var random = TestRandom()
    let inputs = [try random.tensor([2, 3, 4]), try random.tensor([5, 4]), try random.tensor([5])]
    try gradientCheck("linear", inputs) { [try linear($0[0], weight: $0[1], bias: $0[2])] }
    try gradientCheck("linear on a view", [random.tensor([4, 3]), inputs[1]]) {
      [try linear($0[0].transposed(0, 1), weight: $0[1])]
    }
    try gradientCheck("tied weights", [random.tensor([4]), random.tensor([4, 4])]) {
      [try linear(linear($0[0], weight: $0[1]), weight: $0[1])]
    }
  }

  @Test func stridedInputsAndShapes() throws {
    var random = TestRandom()
    let layer = try Linear(6, 4, bias: true, random: &random.source)
    let x = try random.tensor([6, 2, 3]).transposed([1, 2, 0])
    try expectClose(layer(x), layer(x.contiguous()), .fused(.float32))
    #expect(try layer(x).shape == [2, 3, 4])
    #expect(try layer(random.tensor([6])).shape == [4])
    #expect(try layer(random.tensor([0, 3, 6])).shape == [0, 3, 4])
  }

  @Test func wrongShapesThrow() throws {
    let weight = try Tensor.zeros([4, 3])
    let x = try Tensor.zeros([2, 3])
    let wrong: [() throws -> Tensor] = [
      { try linear(Tensor.zeros([2, 4]), weight: weight) }, { try linear(Tensor(1), weight: weight) },
      { try linear(x, weight: Tensor.zeros([3])) }, { try linear(x.cast(to: .int32), weight: weight) },
      { try linear(x, weight: weight, bias: Tensor.zeros([3])) },
      { try linear(x, weight: weight, bias: Tensor.zeros([1])) },
      { try linear(x, weight: weight, bias: Tensor.zeros([2, 4])) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
  }

  @Test func embeddingsLookUpAndLearn() throws {
    var random = TestRandom()
    let embedding = try Embedding(weight: random.tensor([5, 3]))
    let tokens = try Tensor([Int32(4), 0, 4], shape: [1, 3])
    let tracked = try embedding.tracked()
    let y = try tracked(tokens)
    #expect(y.shape == [1, 3, 3])
    let found = try gradients(of: y.sum())[tracked.weight]
    #expect(try found?.sum(axis: 1).floats() == [3, 0, 0, 0, 6])
    #expect(throws: TensorError.self) { try embedding(Tensor([Int32(5)], shape: [1])) }
  }
}

extension TestRandom {
  /// The library's generator, for initial weights.
  var source: RandomSource {
    get { RandomSource(seed: TestRun.seed) }
    set {}
  }
}
