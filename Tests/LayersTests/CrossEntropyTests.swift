import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataLayers

@Suite struct CrossEntropyTests {
  private struct Problem {
    var hidden: Tensor
    var weight: Tensor
    var targets: Tensor

    init(
      _ rows: Int, _ width: Int, _ vocabulary: Int, _ dtype: DType, _ random: inout TestRandom, ignored: Double = 0.2
    ) throws {
      hidden = try random.tensor([rows, width], dtype)
      weight = try random.tensor([vocabulary, width], deviation: 2 / Double(width).squareRoot())
      let ids = (0..<rows).map { _ in random.chance(ignored) ? Int32(-1) : Int32(random.int(0...vocabulary - 1)) }
      targets = try Tensor(ids, shape: [rows])
    }

    /// The weight as bf16 activations see it.
    var seenWeight: Tensor { get throws { try weight.cast(to: hidden.dtype).cast(to: .float32) } }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func matchesItsReference(_ dtype: DType) throws {
    try onEveryPath { path in
      var random = TestRandom("cross entropy \(dtype)")
      for (rows, width, vocabulary) in [(70, 24, 300), (1, 1, 1), (2, 3, 2), (63, 65, 64), (3, 100, 65), (65, 2, 1000)]
      {
        let problem = try Problem(rows, width, vocabulary, dtype, &random)
        let (hidden, weight) = (problem.hidden.tracked(), problem.weight.tracked())
        let fused = try crossEntropy(hidden: hidden, weight: weight, targets: problem.targets, scale: 0.5)
        let found = try gradients(of: fused.total)
        let (h, w) = (problem.hidden.tracked(), try problem.seenWeight.tracked())
        let total = try crossEntropyReference(hidden: h, weight: w, targets: problem.targets, scale: 0.5)
        let expected = try gradients(of: total)
        let label = "\(dtype) \(rows)×\(width)×\(vocabulary)"
        try expectClose(fused.total.detached, total.detached, .product(.float32), "total \(label)")
        try expectClose(fused.losses.sum() * 0.5, total.detached, .product(.float32), "losses \(label)")
        guard let dh = found[hidden], let dw = found[weight], let eh = expected[h], let ew = expected[w] else {
          throw Mismatch("\(label): no gradient")
        }
        #expect(dw.dtype == .float32)
        try expectClose(dh, eh, .fusedGradient(dtype), "dhidden \(label)")
        try expectClose(dw, ew, .fusedGradient(dtype), "dweight \(label)")
      }
    }
  }

  @Test func gradientsByDifferences() throws {
    var random = TestRandom()
    let problem = try Problem(5, 3, 7, .float32, &random)
    try gradientCheck("crossEntropy", [problem.hidden, problem.weight]) {
      [try crossEntropy(hidden: $0[0], weight: $0[1], targets: problem.targets, scale: 0.7).total]
    }
    let rowWeights = try random.uniform([5], 0, 2)
    try gradientCheck("weighted crossEntropy", [problem.hidden, problem.weight]) {
      [
        try crossEntropy(hidden: $0[0], weight: $0[1], targets: problem.targets, rowWeights: rowWeights, scale: -2)
          .total * 3
      ]
    }
  }

  @Test func ignoredRowsCostNothing() throws {
    var random = TestRandom()
    for dtype in [DType.float32, .bfloat16] {
      let problem = try Problem(4, 3, 5, dtype, &random)
      let hidden = problem.hidden.tracked()
      let none = try crossEntropy(
        hidden: hidden, weight: problem.weight, targets: Tensor([Int32(-1), -100, .min, -1], shape: [4]), scale: 1)
      #expect(try none.losses.floats() == [0, 0, 0, 0] && none.total.item() == 0)
      #expect(try gradients(of: none.total)[hidden]?.floats() == [Float](repeating: 0, count: 12))
      let empty = try crossEntropy(
        hidden: Tensor.zeros([0, 3], dtype), weight: problem.weight, targets: Tensor.zeros([0], .int32), scale: 1)
      #expect(try empty.total.item() == 0)
    }
  }

  @Test func aScaleOfZeroHasZeroGradients() throws {
    var random = TestRandom()
    for dtype in [DType.float32, .bfloat16] {
      let problem = try Problem(4, 3, 5, dtype, &random, ignored: 0)
      let (hidden, weight) = (problem.hidden.tracked(), problem.weight.tracked())
      let result = try crossEntropy(hidden: hidden, weight: weight, targets: problem.targets, scale: 0)
      let found = try gradients(of: result.total)
      #expect(try found[hidden]?.floats() == [Float](repeating: 0, count: 12))
      #expect(try found[weight]?.floats() == [Float](repeating: 0, count: 15))
    }
  }

  @Test func hugeLogitsStayFinite() throws {
    let hidden = try Tensor([1e4, -1e4] as [Float], shape: [2, 1]).tracked()
    let weight = try Tensor([1, 0.5, -1] as [Float], shape: [3, 1])
    let result = try crossEntropy(hidden: hidden, weight: weight, targets: Tensor([Int32(0), 0], shape: [2]), scale: 1)
    #expect(try result.losses.floats() == [0, 20_000])
    #expect(try gradients(of: result.total)[hidden]?.floats() == [0, -2])
  }

  /// Logits of 512 rows over 128,000 tokens would take 262 MB; the fused head may take a few blocks beside its gradients.
  @Test func logitsAreNeverKept() throws {
    let (rows, width, vocabulary) = (512, 64, 128_000)
    var source = RandomSource(seed: 4)
    let hidden = try source.normal([rows, width]).tracked()
    let weight = try source.normal([vocabulary, width], deviation: 0.1).tracked()
    let targets = try Tensor.range(rows, step: 250)
    let weightGradient = vocabulary * width * 4
    var losses: [Float] = []
    let holds = try holdsOnce {
      let before = Memory.usage.live
      Memory.resetPeak()
      let result = try crossEntropy(hidden: hidden, weight: weight, targets: targets, scale: 1 / Float(rows))
      let found = try gradients(of: result.total)
      losses.append(try result.total.item())
      return found[weight]?.shape == weight.shape && Memory.usage.peak - before < weightGradient + (48 << 20)
    }
    #expect(holds)
    #expect(losses.allSatisfy { abs($0 - 12.08) < 0.3 })
  }

  @Test func threadsDoNotMatter() throws {
    var random = TestRandom()
    for dtype in [DType.float32, .bfloat16] {
      let problem = try Problem(70, 24, 300, dtype, &random)
      try expectThreadsDoNotMatter("cross entropy \(dtype)") {
        let (hidden, weight) = (problem.hidden.tracked(), problem.weight.tracked())
        let result = try crossEntropy(hidden: hidden, weight: weight, targets: problem.targets, scale: 1)
        let found = try gradients(of: result.total)
        return [result.losses, found[hidden], found[weight]].compactMap { $0 }
      }
    }
  }

  @Test func wrongArgumentsThrow() throws {
    let (hidden, weight) = (try Tensor.zeros([2, 3]), try Tensor.zeros([5, 3]))
    let targets = try Tensor.zeros([2], .int32)
    func fails(_ h: Tensor, _ w: Tensor, _ t: Tensor, weights: Tensor? = nil, _ name: String) {
      #expect(throws: TensorError.self, "\(name)") {
        try crossEntropy(hidden: h, weight: w, targets: t, rowWeights: weights, scale: 1)
      }
    }
    fails(hidden, try Tensor.zeros([5, 4]), targets, "width")
    fails(hidden, weight, try Tensor.zeros([3], .int32), "rows")
    fails(hidden, weight, try Tensor.zeros([2], .int64), "target type")
    fails(hidden, weight, try Tensor([Int32(0), 5], shape: [2]), "a target outside")
    fails(hidden, try Tensor.zeros([0, 3]), targets, "no vocabulary")
    fails(try hidden.expanded(at: 0), weight, targets, "axes")
    fails(hidden, weight, targets, weights: try Tensor.ones([1]), "too few row weights")
    fails(hidden, weight, targets, weights: try Tensor.ones([2], .bfloat16), "type of row weights")
  }
}
