import FermataLayers
import FermataTensors
import FermataTestSupport
import Testing

/// The short convolution against its reference.
@Suite struct KernelConvolutionTests {
  struct Problem: Sendable, CustomStringConvertible {
    var batch = 2
    var length: Int
    var channels = 5
    var width = 4
    var bias = true
    var silu = true
    var resets = false
    var padding = false
    var description: String {
      "\(batch)×\(length)×\(channels), width \(width), bias \(bias), SiLU \(silu), resets \(resets), padding \(padding)"
    }

    /// x, weight, tail and, where there is one, the bias.
    func inputs(_ dtype: DType, _ random: inout TestRandom) throws -> [Tensor] {
      [
        try random.tensor([batch, length, channels], dtype), try random.tensor([channels, 1, width]),
        try random.tensor([batch, width - 1, channels]),
      ] + (bias ? [try random.tensor([channels])] : [])
    }

    func flags(_ random: inout TestRandom) throws -> (resets: Tensor?, valid: Tensor?) {
      (
        resets ? try random.flags([batch, length], probability: 0.1) : nil,
        padding ? try random.flags([batch, length], probability: 0.7) : nil
      )
    }

    func compare(_ dtype: DType, _ random: inout TestRandom) throws {
      let (resets, valid) = try flags(&random)
      try expectSame(
        "convolution \(dtype) \(self)", inputs(dtype, &random), output: .fused(dtype), gradient: .fusedGradient(dtype),
        fused: { x in
          let (y, tail) = try shortConvolution(
            x[0], weight: x[1], bias: bias ? x[3] : nil, tail: x[2], appliesSiLU: silu, resets: resets, valid: valid)
          return [y, tail]
        },
        reference: { x in
          let (y, tail) = try shortConvolutionReference(
            x[0], weight: x[1], bias: bias ? x[3] : nil, tail: x[2], appliesSiLU: silu, resets: resets, valid: valid)
          return [y, tail]
        })
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func matchesSimpleOperations(_ dtype: DType) throws {
    try onEveryPath { _ in
      var random = TestRandom("convolution \(dtype)")
      for length in [1, 2, 3, 63, 64, 65, 100] {
        for (resets, padding) in [(false, false), (true, false), (false, true), (true, true)] {
          try Problem(length: length, resets: resets, padding: padding).compare(dtype, &random)
        }
      }
      for width in [1, 2, 3, 5, 9] {
        try Problem(
          length: 40, channels: 17, width: width, bias: width != 3, silu: width != 2, resets: true, padding: true
        )
        .compare(dtype, &random)
      }
      for channels in [1, 16, 33, 64, 65, 200] {
        try Problem(batch: 1, length: 70, channels: channels, silu: channels != 16).compare(dtype, &random)
      }
    }
  }

  /// Also with a gradient at the tail alone and at the outputs alone.
  @Test func gradientsByDifferences() throws {
    var random = TestRandom()
    let problem = Problem(length: 7, channels: 3, width: 3, resets: true, padding: true)
    let (resets, valid) = try problem.flags(&random)
    try gradientCheck("shortConvolution", problem.inputs(.float32, &random)) {
      let (y, tail) = try shortConvolution(
        $0[0], weight: $0[1], bias: $0[3], tail: $0[2], appliesSiLU: true, resets: resets, valid: valid)
      return [y, tail]
    }
  }

  /// Whatever stands in padding is not read, and large inputs do not overflow the SiLU.
  @Test func paddingMayHoldAnything() throws {
    var random = TestRandom()
    let problem = Problem(length: 20, padding: true)
    var inputs = try problem.inputs(.float32, &random)
    let valid = try #require(problem.flags(&random).valid)
    inputs[0] = try inputs[0] * 200
    let poisoned = try Tensor.selecting(valid.expanded(at: 2), inputs[0], Tensor(.nan))
    try onEveryPath { _ in
      let results = try [inputs[0], poisoned].map { x in
        try outputsAndGradients([x] + inputs.dropFirst()) {
          let (y, tail) = try shortConvolution(
            $0[0], weight: $0[1], bias: $0[3], tail: $0[2], appliesSiLU: true, valid: valid)
          return [y, tail]
        }
      }
      for (a, b) in zip(results[0].outputs + results[0].gradients, results[1].outputs + results[1].gradients) {
        guard let a, let b, try !a.hasNonFinite() else { throw Mismatch("padding: no finite result") }
        try expectSameBits(a, b, "padding")
      }
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func threadsDoNotMatter(_ dtype: DType) throws {
    var random = TestRandom()
    let problem = Problem(batch: 3, length: 130, channels: 150, resets: true, padding: true)
    let inputs = try problem.inputs(dtype, &random)
    let (resets, valid) = try problem.flags(&random)
    try expectThreadsDoNotMatter("convolution \(dtype)") {
      let (outputs, found) = try outputsAndGradients(inputs) {
        let (y, tail) = try shortConvolution(
          $0[0], weight: $0[1], bias: $0[3], tail: $0[2], appliesSiLU: true, resets: resets, valid: valid)
        return [y, tail]
      }
      return outputs + found.compactMap { $0 }
    }
  }

  @Test func viewsAndEmptyPieces() throws {
    var random = TestRandom()
    let layer = try ShortConvolution(
      weight: random.tensor([6, 1, 4]), bias: random.tensor([6]), appliesSiLU: true)
    let joined = try random.tensor([2, 30, 20])
    let view = try joined.slice(7..<13, axis: 2)
    let tail = try random.tensor([2, 3, 6]).tracked()
    try expectSameBits(
      layer(view, tail: tail).output.detached, layer(view.contiguous(), tail: tail).output.detached, "views")
    let (y, after) = try layer(Tensor.zeros([2, 0, 6]), tail: tail)
    #expect(y.shape == [2, 0, 6])
    try expectSameBits(after.detached, tail.detached, "after nothing")
    let seed = try random.tensor(tail.shape)
    try expectSameBits(#require(gradients(of: [(after, seed)])[tail]), seed, "gradient through nothing")
  }

  @Test func wrongShapesThrow() throws {
    let x = try Tensor.zeros([2, 5, 3])
    let weight = try Tensor.zeros([3, 1, 4])
    let tail = try Tensor.zeros([2, 3, 3])
    func run(_ x: Tensor, _ weight: Tensor, _ tail: Tensor, bias: Tensor? = nil, valid: Tensor? = nil) throws {
      _ = try shortConvolution(x, weight: weight, bias: bias, tail: tail, appliesSiLU: true, valid: valid)
    }
    let wrong: [() throws -> Void] = [
      { try run(x, Tensor.zeros([4, 1, 4]), tail) }, { try run(x, Tensor.zeros([3, 2, 4]), tail) },
      { try run(x, Tensor.zeros([3, 1, 65]), Tensor.zeros([2, 64, 3])) },
      { try run(x, weight, Tensor.zeros([2, 4, 3])) }, { try run(x, weight, tail.cast(to: .bfloat16)) },
      { try run(x, weight, tail, bias: Tensor.zeros([4])) },
      { try run(x, weight, tail, valid: Tensor.zeros([2, 5])) },
      { try run(x, weight, tail, valid: Tensor.zeros([2, 4], .uint8)) }, { try run(weight, weight, tail) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
  }
}
