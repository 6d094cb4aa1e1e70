import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

@Suite struct KernelDiagonalScanTests {
  struct Problem: Sendable, CustomStringConvertible {
    var batch = 2
    var length: Int
    var channels = 5
    var modes = 3
    var isComplex = false
    var startsFromState = true
    var resets = false
    var padding = false
    var description: String {
      "\(batch)×\(length)×\(channels), \(modes) modes, \(isComplex ? "complex" : "real"), state \(startsFromState), "
        + "resets \(resets), padding \(padding)"
    }

    /// input, decay, then readout and skip where the input is real, then the state when there is one.
    func inputs(_ dtype: DType, _ random: inout TestRandom) throws -> [Tensor] {
      let shape = [2, modes, channels]
      // Decays of size 0.5 to 1 at any angle.
      let (size, angle) = (
        try random.uniform([modes, channels], 0.5, 1), try random.uniform([modes, channels], -3, 3)
      )
      let decay = try ComplexTensor(real: size * angle.cosine(), imaginary: size * angle.sine()).planes()
      let input = try random.tensor([batch, length] + (isComplex ? [2] : []) + [channels], dtype)
      let weights = isComplex ? [] : [try random.tensor(shape), try random.tensor([channels])]
      return [input, decay] + weights + (startsFromState ? [try random.tensor([batch] + shape)] : [])
    }

    func flags(_ random: inout TestRandom) throws -> (resets: Tensor?, valid: Tensor?) {
      (
        resets ? try random.flags([batch, length], probability: 0.1) : nil,
        padding ? try random.flags([batch, length], probability: 0.8) : nil
      )
    }

    func fused(_ x: [Tensor], _ flags: (resets: Tensor?, valid: Tensor?)) throws -> [Tensor] {
      let state = startsFromState ? x[x.count - 1] : nil
      let (y, s) =
        isComplex
        ? try complexScan(x[0], decay: x[1], state: state, resets: flags.resets, valid: flags.valid)
        : try diagonalScan(
          x[0], decay: x[1], readout: x[2], skip: x[3], state: state, resets: flags.resets, valid: flags.valid)
      return [y, s]
    }

    func compare(_ dtype: DType, _ random: inout TestRandom) throws {
      let (inputs, flags) = (try inputs(dtype, &random), try flags(&random))
      try expectSame(
        "diagonal scan \(dtype) \(self)", inputs, output: .fused(dtype), gradient: .fusedGradient(dtype),
        fused: { try fused($0, flags) },
        reference: { x in
          let (y, s) = try diagonalScanReference(
            x[0], decay: x[1], readout: isComplex ? nil : x[2], skip: isComplex ? nil : x[3],
            state: startsFromState ? x[x.count - 1] : nil, resets: flags.resets, valid: flags.valid)
          return [y, s]
        })
    }
  }

  @Test(arguments: [DType.float32, .bfloat16], [true, false]) func matchesSimpleOperations(
    _ dtype: DType, isComplex: Bool
  ) throws {
    try onEveryPath { path in
      var random = TestRandom("diagonal \(dtype) \(isComplex)")
      for length in [1, 2, 3, 63, 64, 65, 130] {
        for (state, resets, padding) in [(true, true, true), (false, false, false), (true, false, true)] {
          try Problem(
            length: length, modes: isComplex ? 1 : 3, isComplex: isComplex, startsFromState: state, resets: resets,
            padding: padding
          ).compare(dtype, &random)
        }
      }
      for (channels, modes) in [(1, 1), (16, 4), (17, 5), (33, 2), (40, 18)] {
        try Problem(length: 70, channels: channels, modes: isComplex ? 1 : modes, isComplex: isComplex, resets: true)
          .compare(dtype, &random)
      }
    }
  }

  @Test(arguments: [true, false]) func gradientsByDifferences(_ isComplex: Bool) throws {
    var random = TestRandom()
    let problem = Problem(
      length: 5, channels: 3, modes: isComplex ? 1 : 2, isComplex: isComplex, resets: true, padding: true)
    let (inputs, flags) = (try problem.inputs(.float32, &random), try problem.flags(&random))
    try gradientCheck("diagonalScan \(isComplex)", inputs) { try problem.fused($0, flags) }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func threadsDoNotMatter(_ dtype: DType) throws {
    var random = TestRandom()
    for isComplex in [true, false] {
      let problem = Problem(length: 150, channels: 40, modes: isComplex ? 1 : 7, isComplex: isComplex, resets: true)
      let (inputs, flags) = (try problem.inputs(dtype, &random), try problem.flags(&random))
      try expectThreadsDoNotMatter("diagonal scan \(dtype) \(isComplex)") {
        let (outputs, found) = try outputsAndGradients(inputs) { try problem.fused($0, flags) }
        return outputs + found.compactMap { $0 }
      }
    }
  }

  @Test func viewsAndEmptyPieces() throws {
    var random = TestRandom()
    let problem = Problem(length: 70, channels: 8, modes: 2)
    let inputs = try problem.inputs(.float32, &random)
    let joined = try random.tensor([2, 70, 24])
    let view = try joined.slice(8..<16, axis: 2)
    func run(_ input: Tensor) throws -> [Tensor] { try problem.fused([input] + inputs.dropFirst(), (nil, nil)) }
    for (a, b) in zip(try run(view), try run(view.contiguous())) { try expectSameBits(a, b, "views") }
    let turned = try random.tensor([2, 8, 70]).transposed(1, 2)
    for (a, b) in zip(try run(turned), try run(turned.contiguous())) { try expectSameBits(a, b, "transposed") }
    let state = inputs[4].tracked()
    let (y, s) = try diagonalScan(
      view.slice(0..<0, axis: 1), decay: inputs[1], readout: inputs[2], skip: inputs[3], state: state)
    #expect(y.shape == [2, 0, 8])
    try expectSameBits(s.detached, state.detached)
    let seed = try random.tensor(s.shape)
    try expectSameBits(#require(gradients(of: [(s, seed)])[state]), seed)
  }

  @Test func wrongShapesThrow() throws {
    let (x, a, d) = (try Tensor.zeros([1, 4, 3]), try Tensor.zeros([2, 2, 3]), try Tensor.zeros([3]))
    let z = try Tensor.zeros([1, 4, 2, 3])
    let flags = try Tensor.zeros([1, 4], .uint8)
    func scan(_ x: Tensor, _ a: Tensor, _ r: Tensor, _ d: Tensor, state: Tensor? = nil, resets: Tensor? = nil) throws {
      _ = try diagonalScan(x, decay: a, readout: r, skip: d, state: state, resets: resets)
    }
    try scan(x, a, a, d, resets: flags)
    let wrong: [() throws -> Void] = [
      { try scan(z, a, a, d) }, { try scan(x, d, a, d) }, { try scan(x, a, Tensor.zeros([2, 1, 3]), d) },
      { try scan(x, a, a, Tensor.zeros([4])) }, { try scan(x, a.cast(to: .bfloat16), a, d) },
      { try scan(x, a, a, d, state: Tensor.zeros([1, 2, 2, 4])) },
      { try scan(x, a, a, d, state: Tensor.zeros([1, 2, 2, 3], .bfloat16)) },
      { try scan(x, a, a, d, resets: Tensor.zeros([1, 4])) },
      { _ = try complexScan(x, decay: a, state: nil) }, { _ = try complexScan(z, decay: a, state: nil) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
  }
}
