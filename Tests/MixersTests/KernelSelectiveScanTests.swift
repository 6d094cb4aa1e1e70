import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

/// Mamba's selective scan against its reference.
@Suite struct KernelSelectiveScanTests {
  struct Problem: Sendable, CustomStringConvertible {
    var batch = 2
    var length: Int
    var channels = 5
    var states = 3
    var gated = true
    var resets = false
    var padding = false
    /// Mean of the steps before softplus: large ones forget at once.
    var step = 0.0
    var description: String {
      "\(batch)×\(length)×\(channels), \(states) states, gated \(gated), resets \(resets), padding \(padding), step \(step)"
    }

    /// x, step, step bias, A, b, c, D, initial state and, when gated, the gate.
    func inputs(_ dtype: DType, _ random: inout TestRandom) throws -> [Tensor] {
      let (token, row) = ([batch, length, channels], [batch, length, states])
      return [
        try random.tensor(token, dtype), try random.tensor(token, dtype, mean: step), try random.tensor([channels]),
        try random.uniform([states, channels], -2, 0), try random.tensor(row, dtype), try random.tensor(row, dtype),
        try random.tensor([channels]), try random.tensor([batch, states, channels]),
      ] + (gated ? [try random.tensor(token, dtype)] : [])
    }

    func flags(_ random: inout TestRandom) throws -> (resets: Tensor?, valid: Tensor?) {
      (
        resets ? try random.flags([batch, length], probability: 0.1) : nil,
        padding ? try random.flags([batch, length], probability: 0.7) : nil
      )
    }

    static func scan(_ x: [Tensor], resets: Tensor?, valid: Tensor?, slow: Bool = false) throws -> [Tensor] {
      let inputs = SelectiveScanInputs(
        x: x[0], step: x[1], stepBias: x[2], a: x[3], b: x[4], c: x[5], skip: x[6], gate: x.count > 8 ? x[8] : nil)
      let (y, state) =
        try slow
        ? selectiveScanReference(inputs, state: x[7], resets: resets, valid: valid)
        : selectiveScan(inputs, state: x[7], resets: resets, valid: valid)
      return [y, state]
    }

    func compare(_ dtype: DType, _ random: inout TestRandom) throws {
      let (resets, valid) = try flags(&random)
      try expectSame(
        "selective scan \(dtype) \(self)", inputs(dtype, &random), output: .fused(dtype),
        gradient: .fusedGradient(dtype), fused: { try Self.scan($0, resets: resets, valid: valid) },
        reference: { try Self.scan($0, resets: resets, valid: valid, slow: true) })
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func matchesSimpleOperations(_ dtype: DType) throws {
    try onEveryPath { _ in
      var random = TestRandom("selective scan \(dtype)")
      for length in [1, 2, 3, 63, 64, 65, 100] {
        try Problem(length: length).compare(dtype, &random)
        try Problem(length: length, resets: true, padding: true).compare(dtype, &random)
      }
      for (channels, states) in [(1, 1), (16, 16), (33, 17), (64, 4), (65, 8), (130, 16)] {
        try Problem(length: 70, channels: channels, states: states, gated: channels != 33, resets: states == 8).compare(
          dtype, &random)
      }
    }
  }

  /// More than one segment of the backward.
  @Test func longSequences() throws {
    try onEveryPath { _ in
      var random = TestRandom("long selective scan")
      for length in [256, 257, 600] {
        try Problem(length: length, channels: 3, resets: length == 600, padding: length == 257).compare(
          .float32, &random)
      }
    }
  }

  /// Steps so large that states vanish, and so small that they stay.
  @Test func extremeSteps() throws {
    try onEveryPath { _ in
      var random = TestRandom("extreme steps")
      for step in [-30.0, -8, 8, 300] { try Problem(length: 66, step: step).compare(.float32, &random) }
    }
  }

  @Test func gradientsByDifferences() throws {
    var random = TestRandom()
    let problem = Problem(length: 6, channels: 3, states: 2, resets: true, padding: true)
    let (resets, valid) = try problem.flags(&random)
    try gradientCheck("selectiveScan", problem.inputs(.float32, &random)) {
      try Problem.scan($0, resets: resets, valid: valid)
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func threadsDoNotMatter(_ dtype: DType) throws {
    var random = TestRandom()
    let problem = Problem(batch: 2, length: 300, channels: 150, states: 5, resets: true, padding: true)
    let inputs = try problem.inputs(dtype, &random)
    let (resets, valid) = try problem.flags(&random)
    try expectThreadsDoNotMatter("selective scan \(dtype)") {
      let (outputs, found) = try outputsAndGradients(inputs) { try Problem.scan($0, resets: resets, valid: valid) }
      return outputs + found.compactMap { $0 }
    }
  }

  @Test func paddingMayHoldAnything() throws {
    var random = TestRandom()
    let problem = Problem(length: 70, padding: true)
    let inputs = try problem.inputs(.float32, &random)
    let valid = try #require(problem.flags(&random).valid)
    var poisoned = inputs
    for index in [0, 1, 4, 5, 8] {
      poisoned[index] = try Tensor.selecting(valid.expanded(at: 2), inputs[index], Tensor(.nan))
    }
    try onEveryPath { _ in
      let results = try [inputs, poisoned].map {
        try outputsAndGradients($0) { try Problem.scan($0, resets: nil, valid: valid) }
      }
      for (a, b) in zip(results[0].outputs + results[0].gradients, results[1].outputs + results[1].gradients) {
        guard let a, let b else { throw Mismatch("padding: no result") }
        try expectSameBits(a, b, "padding")
      }
    }
  }

  /// Beside inputs, outputs and their gradients, forward and backward take at most an eighth of what all states would.
  @Test(arguments: [(4096, 512, 16), (512, 512, 16), (4096, 96, 8), (4096, 16, 16)])
  func extraMemoryIsBounded(_ length: Int, _ channels: Int, _ states: Int) throws {
    var random = TestRandom()
    let leaves = try Problem(batch: 1, length: length, channels: channels, states: states).inputs(.float32, &random)
      .map { $0.tracked() }
    let seed = try Tensor.ones([1, length, channels])
    let allowed = length * channels * states * 4 / 8
    for threads in [1, 2, 3, 16] {
      let (needed, peak, _) = try withThreads(threads) {
        try Memory.measure {
          let outputs = try Problem.scan(leaves, resets: nil, valid: nil)
          let found = try gradients(of: [(outputs[0], seed)])
          return (outputs + leaves.compactMap { found[$0] }).reduce(0) { $0 + $1.byteCount }
        }
      }
      let text = "\(length)×\(channels)×\(states), \(threads) threads: \(peak - needed) bytes, \(allowed) allowed"
      #expect(peak - needed <= allowed, "\(text)")
      print("selective scan of \(text)")
    }
  }

  @Test func wrongShapesThrow() throws {
    var random = TestRandom()
    let good = try Problem(length: 4).inputs(.float32, &random)
    for index in good.indices {
      var wrong = good
      let shape = good[index].shape
      wrong[index] = try Tensor.zeros(shape.dropLast() + [shape[shape.count - 1] + 1])
      #expect(throws: TensorError.self, "input \(index) of another shape") {
        try Problem.scan(wrong, resets: nil, valid: nil)
      }
      wrong[index] = try good[index].cast(to: .bfloat16)
      #expect(throws: TensorError.self, "input \(index) of another type") {
        try Problem.scan(wrong, resets: nil, valid: nil)
      }
    }
    #expect(throws: TensorError.self) { try Problem.scan(good, resets: Tensor.zeros([2, 3], .uint8), valid: nil) }
    #expect(throws: TensorError.self) { try Problem.scan(good, resets: nil, valid: Tensor.zeros([2, 4])) }
  }
}
