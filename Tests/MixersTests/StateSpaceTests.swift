import FermataFiles
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataMixers

@Suite struct StateSpaceTests {
  /// V is unitary, and V diag(λ) V* − p pᵀ is the matrix of HiPPO-LegS.
  @Test(arguments: [2, 4, 6, 16, 64]) func hippoIsNormalPlusRankOne(_ size: Int) {
    let hippo = HiPPO(size: size)
    #expect(hippo.frequencies.count == size / 2)
    #expect(hippo.frequencies == hippo.frequencies.sorted())
    func p(_ n: Int) -> Double { (Double(n) + 0.5).squareRoot() }
    var worst = 0.0
    for n in 0..<size {
      for k in 0..<size {
        // 2 Re Σ_j V_nj λ_j conj(V_kj) over the kept half.
        var sum = 0.0
        for (j, frequency) in hippo.frequencies.enumerated() {
          let (a, b) = (hippo.real[j], hippo.imaginary[j])
          sum += 2 * (-0.5 * (a[n] * a[k] + b[n] * b[k]) - frequency * (b[n] * a[k] - a[n] * b[k]))
        }
        let expected = n > k ? -2 * p(n) * p(k) : n == k ? -Double(n + 1) : 0
        worst = max(worst, abs(sum - p(n) * p(k) - expected))
      }
    }
    #expect(worst < 1e-10 * Double(size * size), "worst difference \(worst)")
    for (j, column) in hippo.real.enumerated() {
      let square = zip(column, hippo.imaginary[j]).reduce(0) { $0 + $1.0 * $1.0 + $1.1 * $1.1 }
      #expect(abs(square - 1) < 1e-12)
    }
  }

  /// Both rules against their formulas in double precision, for steps so short that e^z − 1 cancels in single precision.
  @Test(arguments: Discretisation.allCases) func discretises(_ rule: Discretisation) throws {
    var random = TestRandom()
    for size: Float in [1e-5, 1e-3, 0.1, 1] {
      let (x, y) = (try random.uniform([40], -2, -0.01), try random.uniform([40], -100, 100))
      let (decay, gain) = try rule(ComplexTensor(real: x, imaginary: y), step: Tensor(size))
      var expected: [[Double]] = [[], [], [], []]
      for (x, y) in zip(try x.floats(), try y.floats()) {
        let (a, b) = exact(rule, Double(x), Double(y), Double(size))
        for (index, value) in [a.0, a.1, b.0, b.1].enumerated() { expected[index].append(value) }
      }
      // A complex number's error is measured against its size.
      for (index, part) in [decay, gain].enumerated() {
        try expectClose(
          (part.real.floats() + part.imaginary.floats()).map(Double.init),
          expected[2 * index] + expected[2 * index + 1],
          Tolerance(ratio: 1e-6, floor: 0), "\(rule) \(size) \(index)")
      }
    }
  }

  private func exact(_ rule: Discretisation, _ x: Double, _ y: Double, _ step: Double) -> (
    decay: (Double, Double), gain: (Double, Double)
  ) {
    func divide(_ a: (Double, Double), _ b: (Double, Double)) -> (Double, Double) {
      let size = b.0 * b.0 + b.1 * b.1
      return ((a.0 * b.0 + a.1 * b.1) / size, (a.1 * b.0 - a.0 * b.1) / size)
    }
    let z = (step * x, step * y)
    switch rule {
    case .zeroOrderHold:
      let half = sin(z.1 / 2)
      let less = (expm1(z.0) * cos(z.1) - 2 * half * half, exp(z.0) * sin(z.1))
      return ((exp(z.0) * cos(z.1), exp(z.0) * sin(z.1)), divide(less, (x, y)))
    case .bilinear:
      let below = (1 - z.0 / 2, -z.1 / 2)
      return (divide((1 + z.0 / 2, z.1 / 2), below), divide((step, 0), below))
    }
  }

  /// The power of a stretch counts its valid tokens and is zero after a document's start.
  @Test func powersCountTokens() throws {
    let decay = try Tensor([0.5, 0.25, 0.1, -0.3] as [Float], shape: [2, 1, 2])
    var layout = Layout(batch: 3, length: 5)
    layout.valid = try Tensor([1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0] as [UInt8], shape: [3, 5])
    let powers = try complexPower(decay, layout: layout)
    var expected = try Tensor([1, 1, 0, 0] as [Float], shape: [1, 2, 1, 2])
    for (row, count) in [(2, 0), (1, 3), (0, 5)] {
      var power = try Tensor([1, 1, 0, 0] as [Float], shape: [1, 2, 1, 2])
      for _ in 0..<count { power = try complexProduct(power, decay) }
      expected = power
      try expectClose(powers.slice(row..<row + 1, axis: 0).contiguous(), expected, .product(.float32), "row \(row)")
    }
    layout.resets = try Tensor([0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] as [UInt8], shape: [3, 5])
    let cut = try complexPower(decay, layout: layout).slice(0..<1, axis: 0).floats()
    #expect(cut.allSatisfy { $0 == 0 })
  }

  /// A summary of a stretch with document starts inside does to a state what the stretch does.
  @Test(arguments: MixerExample.all.filter { ["s4d", "s5"].contains($0.entry.name) }) func summariesHoldResets(
    _ example: MixerExample
  ) throws {
    var random = TestRandom("resets \(example)")
    let subject = try example.subjects()[0]
    guard let mixer = subject.mixer as? any MergingMixer else { throw Mismatch("\(example) does not merge") }
    var piece = try subject.piece(20, &random)
    piece.layout.resets = try random.flags([subject.batch, 20], probability: 0.05)
    piece.layout.valid = try random.flags([subject.batch, 20], probability: 0.8)
    let start = try subject.start(9, &random)
    var (run, advanced) = (start, start)
    _ = try mixer(piece, state: &run)
    try mixer.advance(&advanced, by: mixer.summarise(piece))
    try expectSameState(advanced, run, LawTolerance.state(.float32), "\(example)")
  }

  /// Twice the samples with half the step describe the same signal: outputs at common times stay close (S4, Gu et al. 2022).
  @Test(arguments: ["s4", "s4d"]) func halvingTheStepResamples(_ name: String) throws {
    var random = RandomSource(seed: 3)
    let options: [String: JSONValue] = [
      "type": .string(name), "state_size": .int(8), "dt_min": .double(0.002), "dt_max": .double(0.004),
    ]
    let coarse = try MixerRegistry.standard.make(width: 4, configuration: .object(options), random: &random)
    func sampled(_ count: Int) throws -> Tensor {
      var values: [Float] = []
      for t in 0..<count {
        let time = Double(t) / Double(count)
        for channel in 1...4 { values.append(Float(sin(6 * time * Double(channel)) * sin(Double.pi * time))) }
      }
      return try Tensor(values, shape: [1, count, 4])
    }
    func run(_ mixer: some Mixer, _ count: Int) throws -> Tensor {
      var (mixer, state) = (mixer, try mixer.initialState(batch: 1))
      if count == 4000 { try mixer.updateParameters { if $0.hasSuffix("log_dt") { $1 = try $1 - Float(log(2.0)) } } }
      return try mixer(Piece(sampled(count)), state: &state)
    }
    let slow = try run(coarse, 2000)
    let fast = try run(coarse, 4000).reshaped([1, 2000, 2, 4]).select(0, axis: 2).contiguous()
    try expectClose(fast, slow, Tolerance(ratio: 2e-2, floor: 0), name)
  }
}
