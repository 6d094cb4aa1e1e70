import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataLayers

/// A fused operation, its oracle in simple operations, and inputs made for a size.
struct FusedCase: Sendable {
  var name: String
  var inputs: @Sendable (inout TestRandom, _ rows: Int, _ width: Int, DType) throws -> [Tensor]
  var fused: @Sendable ([Tensor]) throws -> Tensor
  var reference: @Sendable ([Tensor]) throws -> Tensor

  /// Compares outputs and gradients on the current path.
  func compare(_ random: inout TestRandom, rows: Int, width: Int, _ dtype: DType) throws {
    let inputs = try inputs(&random, rows, width, dtype)
    let label = "\(name) \(dtype) \(rows)×\(width)"
    func run(_ body: ([Tensor]) throws -> Tensor) throws -> (Tensor, [Tensor?]) {
      let leaves = inputs.map { $0.tracked() }
      let y = try body(leaves)
      var seeds = TestRandom(label)
      let found = try gradients(of: [(y, seeds.tensor(y.shape, y.dtype))])
      return (y.detached, leaves.map { found[$0] })
    }
    let (y, found) = try run(fused)
    let (expected, oracle) = try run(reference)
    try expectClose(y, expected, .fused(dtype), label)
    for index in inputs.indices {
      guard let a = found[index], let b = oracle[index] else {
        throw Mismatch("\(label): no gradient of input \(index)")
      }
      try expectClose(a, b, .fusedGradient(dtype), "\(label), gradient of input \(index)")
    }
  }
}

@Suite struct FusedLayerTests {
  static let cases = [
    FusedCase(
      name: "rmsNorm",
      inputs: { [try $0.tensor([$1, $2], $3, deviation: 2), try $0.tensor([$2], deviation: 0.3, mean: 1)] },
      fused: { try rmsNorm($0[0], weight: $0[1], epsilon: 1e-5) },
      reference: { try RMSNorm.reference($0[0], weight: $0[1], epsilon: 1e-5) }),
    FusedCase(
      name: "layerNorm",
      inputs: { random, rows, width, dtype in
        [
          try random.tensor([rows, width], dtype, deviation: 2, mean: 0.5),
          try random.tensor([width], deviation: 0.3, mean: 1),
          try random.tensor([width]),
        ]
      },
      fused: { try layerNorm($0[0], weight: $0[1], bias: $0[2], epsilon: 1e-3) },
      reference: { try LayerNorm.reference($0[0], weight: $0[1], bias: $0[2], epsilon: 1e-3) }),
    FusedCase(
      name: "swiGLU", inputs: { [try $0.tensor([$1, 2 * $2], $3, deviation: 3)] }, fused: { try swiGLU($0[0]) },
      reference: { try swiGLUReference($0[0]) }),
    FusedCase(
      name: "softmax", inputs: { [try $0.tensor([$1, $2], $3, deviation: 3)] }, fused: { try $0[0].softmax() },
      reference: { try $0[0].softmaxReference() }),
  ]

  /// Results larger than the caches are stored past them: the same bits as when they are small.
  @Test func largeResultsAreTheSame() throws {
    var random = TestRandom("large results")
    let (rows, copies) = (64, 512)
    for (width, operation) in [
      (512, { try rmsNorm($0, weight: Tensor.ones([512]), epsilon: 1e-5) }), (1024, swiGLU),
    ] as [(Int, (Tensor) throws -> Tensor)] {
      let x = try random.tensor([1, rows, width])
      let large = try x.broadcast(to: [copies, rows, width]).contiguous()
      try onEveryPath { path in
        let (small, results) = (try operation(x), try operation(large))
        #expect(results.byteCount >= 64 << 20)
        for copy in [0, copies / 2, copies - 1] {
          try expectSameBits(results.slice(copy..<copy + 1, axis: 0), small, "copy \(copy) of \(width) on \(path)")
        }
      }
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func matchTheirReferences(_ dtype: DType) throws {
    try onEveryPath { path in
      var random = TestRandom("fused layers \(dtype)")
      for operation in Self.cases {
        for width in [2, 3, 63, 64, 65, 100] {
          for rows in [1, 2, 65] { try operation.compare(&random, rows: rows, width: width, dtype) }
        }
        try operation.compare(&random, rows: 700, width: 33, dtype)
      }
    }
  }

  @Test func gradientsByDifferences() throws {
    var random = TestRandom()
    for operation in Self.cases {
      for width in [3, 6] {
        try gradientCheck(operation.name, operation.inputs(&random, 3, width, .float32), step: 0.01) {
          [try operation.fused($0)]
        }
      }
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func threadsDoNotMatter(_ dtype: DType) throws {
    var random = TestRandom()
    for operation in Self.cases {
      let inputs = try operation.inputs(&random, 513, 65, dtype)
      try expectThreadsDoNotMatter(operation.name) {
        let leaves = inputs.map { $0.tracked() }
        let y = try operation.fused(leaves)
        let found = try gradients(of: [(y, Tensor.ones(y.shape, dtype))])
        return [y.detached] + leaves.compactMap { found[$0] }
      }
    }
  }

  @Test func oneFeatureAndNoRows() throws {
    let one = try Tensor([3, -2, 0] as [Float], shape: [3, 1])
    #expect(
      try rmsNorm(one, weight: Tensor([2]), epsilon: 0.0001).floats().map { ($0 * 1000).rounded() } == [2000, -2000, 0])
    #expect(try layerNorm(one, weight: Tensor([2]), bias: Tensor([5]), epsilon: 1).floats() == [5, 5, 5])
    for dtype in [DType.float32, .bfloat16] {
      let none = try Tensor.zeros([0, 4], dtype).tracked()
      let weight = try Tensor.ones([4]).tracked()
      let y = try rmsNorm(none, weight: weight, epsilon: 1e-5)
      let z = try layerNorm(none, weight: weight, bias: Tensor.zeros([4]), epsilon: 1e-5)
      let found = try gradients(of: [(y, Tensor.zeros([0, 4], dtype)), (z, Tensor.zeros([0, 4], dtype))])
      #expect(try found[weight]?.floats() == [0, 0, 0, 0])
      #expect(try swiGLU(none).shape == [0, 2])
    }
  }

  @Test func largeAndTinyInputs() throws {
    for size: Float in [1e-15, 1e15] {
      let x = try Tensor([size, -size, size, 2 * size])
      let y = try rmsNorm(x, weight: Tensor.ones([4]), epsilon: 0)
      try expectClose(y, Tensor([0.7559289, -0.7559289, 0.7559289, 1.5118579]), .fused(.float32), "\(size)")
    }
    let gates = try Tensor([200, -200, .infinity, 1, 1, 1])
    #expect(try swiGLU(gates).floats() == [200, 0, .infinity])
  }

  @Test func wrongShapesThrow() throws {
    let x = try Tensor.zeros([2, 3])
    let w = try Tensor.ones([3])
    let wrong: [() throws -> Tensor] = [
      { try rmsNorm(x, weight: Tensor.ones([2]), epsilon: 1) },
      { try rmsNorm(x.cast(to: .int32), weight: w, epsilon: 1) },
      { try rmsNorm(Tensor(1), weight: w, epsilon: 1) },
      { try rmsNorm(Tensor.zeros([2, 0]), weight: Tensor.zeros([0]), epsilon: 1) },
      { try layerNorm(x, weight: w, bias: Tensor.zeros([2]), epsilon: 1) }, { try swiGLU(x) },
      { try swiGLU(Tensor(1)) },
      { try swiGLU(Tensor.zeros([2, 0])) }, { try swiGLU(Tensor.zeros([2, 4], .int32)) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
  }
}
