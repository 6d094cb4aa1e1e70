import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

@Suite struct TaylorFeaturesTests {
  @Test(arguments: [DType.float32, .bfloat16]) func matchesSimpleOperations(_ dtype: DType) throws {
    try onEveryPath { path in
      var random = TestRandom("taylor \(dtype)")
      for (rows, width) in [(1, 1), (3, 2), (2, 15), (70, 16), (3, 17), (2, 33), (1, 64), (300, 5)] {
        try expectSame(
          "taylor \(dtype) \(rows)×\(width)", [random.tensor([rows, 1, width], dtype)], output: .fused(dtype),
          gradient: .fusedGradient(dtype), fused: { [try taylorFeatures($0[0])] },
          reference: { [try taylorFeaturesReference($0[0])] })
      }
    }
  }

  /// φ(q) · φ(k) = 1 + s + s²/2 with s = q · k / √width.
  @Test func productsAreTheSeries() throws {
    var random = TestRandom()
    for width in [1, 4, 16, 31] {
      let (q, k) = (try random.tensor([20, width]), try random.tensor([20, width]))
      let s = try (q * k).sum(axis: 1) / Float(width).squareRoot()
      try expectClose(
        (taylorFeatures(q) * taylorFeatures(k)).sum(axis: 1), 1 + s + s.squared() * 0.5, .fused(.float32), "\(width)")
    }
  }

  @Test func wrongShapesThrow() throws {
    for shape in [[2, 0], [2, 65], []] {
      #expect(throws: TensorError.self) { try taylorFeatures(Tensor.zeros(shape)) }
    }
    #expect(throws: TensorError.self) { try taylorFeatures(Tensor.zeros([2, 3], .int32)) }
    #expect(try taylorFeatures(Tensor.zeros([0, 3])).shape == [0, 10])
  }
}
