import FermataLayers
import FermataTensors
import FermataTestSupport
import Testing

/// Mamba-2's fused read-out against its reference.
@Suite struct KernelGatedNormTests {
  /// x, skip, skipped, gate, weight.
  private func inputs(_ shape: [Int], heads: Int, _ dtype: DType, _ random: inout TestRandom) throws -> [Tensor] {
    [
      try random.tensor(shape, dtype), try random.tensor([heads]), try random.tensor(shape, dtype),
      try random.tensor(shape, dtype), try random.tensor([shape[2]], deviation: 0.3, mean: 1),
    ]
  }

  private func run(_ x: [Tensor], groups: Int, slow: Bool = false) throws -> [Tensor] {
    let norm = GatedGroupNorm(weight: x[4], groups: groups, epsilon: 1e-3)
    return [
      try slow
        ? norm.reference(x[0], skip: x[1], skipped: x[2], gate: x[3])
        : norm(x[0], skip: x[1], skipped: x[2], gate: x[3])
    ]
  }

  @Test(arguments: [DType.float32, .bfloat16]) func matchesSimpleOperations(_ dtype: DType) throws {
    try onEveryPath { _ in
      var random = TestRandom("gated norm \(dtype)")
      for (shape, heads, groups) in [
        ([1, 1, 1], 1, 1), ([2, 3, 6], 3, 2), ([2, 35, 33], 3, 1), ([1, 70, 64], 4, 4), ([3, 1, 130], 2, 5),
      ] {
        try expectSame(
          "gated norm \(dtype) \(shape), \(heads) heads, \(groups) groups",
          inputs(shape, heads: heads, dtype, &random), output: .fused(dtype), gradient: .fusedGradient(dtype),
          fused: { try run($0, groups: groups) }, reference: { try run($0, groups: groups, slow: true) })
      }
    }
  }

  @Test func threadsDoNotMatter() throws {
    var random = TestRandom()
    let inputs = try inputs([2, 300, 66], heads: 3, .float32, &random)
    try expectThreadsDoNotMatter("gated norm") {
      let (outputs, found) = try outputsAndGradients(inputs) { try run($0, groups: 2) }
      return outputs + found.compactMap { $0 }
    }
  }

  @Test func viewsAndWrongShapes() throws {
    var random = TestRandom()
    var x = try inputs([2, 9, 12], heads: 3, .float32, &random)
    let expected = try run(x, groups: 1)[0]
    let joined = try Tensor.concatenated([x[2], x[3]], axis: 2)
    x[2] = try joined.slice(0..<12, axis: 2)
    x[3] = try joined.slice(12..<24, axis: 2)
    try expectSameBits(run(x, groups: 1)[0], expected, "views")
    #expect(throws: TensorError.self) { try run(x, groups: 5) }
    x[1] = try Tensor.ones([5])
    #expect(throws: TensorError.self) { try run(x, groups: 1) }
  }
}
