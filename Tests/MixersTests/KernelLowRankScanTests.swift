import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

@Suite struct KernelLowRankScanTests {
  struct Problem: Sendable, CustomStringConvertible {
    var batch = 2
    var length: Int
    var channels = 5
    var modes = 3
    var startsFromState = true
    var resets = false
    var padding = false
    var description: String {
      "\(batch)×\(length)×\(channels), \(modes) modes, state \(startsFromState), resets \(resets), padding \(padding)"
    }

    /// input, the system's arrays and, when there is one, the state. Transitions keep states from growing.
    func inputs(_ dtype: DType, _ random: inout TestRandom) throws -> [Tensor] {
      let shape = [2, modes, channels]
      let (size, angle) = (
        try random.uniform([modes, channels], 0.3, 0.8), try random.uniform([modes, channels], -3, 3)
      )
      let decay = try ComplexTensor(real: size * angle.cosine(), imaginary: size * angle.sine()).planes()
      let small = 0.2 / Double(modes).squareRoot()
      return [
        try random.tensor([batch, length, channels], dtype), decay, try random.tensor(shape, deviation: small),
        try random.tensor(shape), try random.tensor(shape, deviation: small), try random.tensor(shape),
        try random.tensor([channels]),
      ] + (startsFromState ? [try random.tensor([batch] + shape)] : [])
    }

    func flags(_ random: inout TestRandom) throws -> (resets: Tensor?, valid: Tensor?) {
      (
        resets ? try random.flags([batch, length], probability: 0.1) : nil,
        padding ? try random.flags([batch, length], probability: 0.8) : nil
      )
    }

    func run(_ x: [Tensor], _ flags: (resets: Tensor?, valid: Tensor?), slow: Bool = false) throws -> [Tensor] {
      let system = LowRankSystem(
        decay: x[1], correction: x[2], input: x[3], probe: x[4], readout: x[5], skip: x[6])
      let scan = slow ? lowRankScanReference : lowRankScan
      let (y, s) = try scan(x[0], system, x.count > 7 ? x[7] : nil, flags.resets, flags.valid)
      return [y, s]
    }

    func compare(_ dtype: DType, _ random: inout TestRandom) throws {
      let (inputs, flags) = (try inputs(dtype, &random), try flags(&random))
      try expectSame(
        "low rank scan \(dtype) \(self)", inputs, output: .fused(dtype), gradient: .fusedGradient(dtype),
        fused: { try run($0, flags) }, reference: { try run($0, flags, slow: true) })
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func matchesSimpleOperations(_ dtype: DType) throws {
    try onEveryPath { path in
      var random = TestRandom("low rank \(dtype)")
      for length in [1, 2, 3, 63, 64, 65, 130] {
        for (state, resets, padding) in [(true, true, true), (false, false, false), (true, false, true)] {
          try Problem(length: length, startsFromState: state, resets: resets, padding: padding).compare(dtype, &random)
        }
      }
      for (channels, modes) in [(1, 1), (16, 4), (17, 5), (33, 2), (20, 18)] {
        try Problem(length: 70, channels: channels, modes: modes, resets: true).compare(dtype, &random)
      }
    }
  }

  @Test func gradientsByDifferences() throws {
    var random = TestRandom()
    let problem = Problem(length: 5, channels: 3, modes: 2, resets: true, padding: true)
    let (inputs, flags) = (try problem.inputs(.float32, &random), try problem.flags(&random))
    try gradientCheck("lowRankScan", inputs) { try problem.run($0, flags) }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func threadsDoNotMatter(_ dtype: DType) throws {
    var random = TestRandom()
    let problem = Problem(length: 150, channels: 40, modes: 7, resets: true)
    let (inputs, flags) = (try problem.inputs(dtype, &random), try problem.flags(&random))
    try expectThreadsDoNotMatter("low rank scan \(dtype)") {
      let (outputs, found) = try outputsAndGradients(inputs) { try problem.run($0, flags) }
      return outputs + found.compactMap { $0 }
    }
  }

  @Test func viewsAndEmptyPieces() throws {
    var random = TestRandom()
    let problem = Problem(length: 70, channels: 8, modes: 2)
    let inputs = try problem.inputs(.float32, &random)
    let view = try random.tensor([2, 70, 24]).slice(8..<16, axis: 2)
    let copy = try view.contiguous()
    for (a, b) in zip(
      try problem.run([view] + inputs.dropFirst(), (nil, nil)), try problem.run([copy] + inputs.dropFirst(), (nil, nil))
    ) { try expectSameBits(a, b, "views") }
    let state = inputs[7].tracked()
    let results = try problem.run([view.slice(0..<0, axis: 1)] + inputs[1..<7] + [state], (nil, nil))
    #expect(results[0].shape == [2, 0, 8])
    try expectSameBits(results[1].detached, state.detached)
    let seed = try random.tensor(state.shape)
    try expectSameBits(#require(gradients(of: [(results[1], seed)])[state]), seed)
  }

  @Test func wrongShapesThrow() throws {
    var random = TestRandom()
    let problem = Problem(length: 4)
    let right = try problem.inputs(.float32, &random)
    _ = try problem.run(right, (nil, nil))
    for index in right.indices {
      var wrong = right
      wrong[index] = try random.tensor(right[index].shape.dropLast() + [6])
      #expect(throws: TensorError.self, "shape of \(index)") { try problem.run(wrong, (nil, nil)) }
      wrong[index] = try right[index].cast(to: .bfloat16)
      if index > 0 { #expect(throws: TensorError.self, "type of \(index)") { try problem.run(wrong, (nil, nil)) } }
    }
    #expect(throws: TensorError.self) { try problem.run(right, (resets: Tensor.zeros([2, 4]), valid: nil)) }
    #expect(throws: TensorError.self) { try problem.run(right, (resets: nil, valid: Tensor.zeros([2, 3], .uint8))) }
  }
}
