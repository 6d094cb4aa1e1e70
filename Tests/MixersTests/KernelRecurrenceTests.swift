import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

/// A cell by the name that the goldens and failures show.
struct NamedCell: Sendable, CustomTestStringConvertible {
  var name: String
  var cell: RecurrentCell
  var testDescription: String { name }

  static let all = [
    NamedCell(name: "lstm", cell: .lstm), NamedCell(name: "gru", cell: .gru), NamedCell(name: "slstm", cell: .slstm),
  ]
}

/// The fused recurrence, whatever its cell: against the equation and against outside answers.
@Suite struct KernelRecurrenceTests {
  private struct Problem: CustomStringConvertible {
    var batch = 2
    var length: Int
    var width: Int
    var heads = 1
    var hasBias = false
    var resets: Tensor?
    var valid: Tensor?
    var description: String {
      "\(batch)×\(length)×\(width) in \(heads) heads, bias \(hasBias), resets \(resets != nil), padding \(valid != nil)"
    }

    /// Projections, recurrent weights, states, and the bias if there is one.
    func inputs(_ cell: RecurrentCell, _ dtype: DType, _ random: inout TestRandom) throws -> [Tensor] {
      let (rows, headWidth) = (cell.gates * width, width / heads)
      var inputs = [
        try random.tensor([batch, length, rows], dtype),
        try random.tensor([rows, headWidth], deviation: 1 / Double(headWidth).squareRoot()).cast(to: dtype),
      ]
      for _ in cell.states { inputs.append(try random.tensor([batch, width], deviation: 0.7)) }
      if hasBias { inputs.append(try random.tensor([rows], deviation: 0.5)) }
      return inputs
    }

    func run(_ cell: RecurrentCell, _ inputs: [Tensor], isFused: Bool = true) throws -> [Tensor] {
      let states = Array(inputs[2..<2 + cell.states.count])
      let bias = hasBias ? inputs.last : nil
      let run = isFused ? recurrentScan : recurrentReference
      let result = try run(cell, inputs[0], inputs[1], bias, states, resets, valid)
      return [result.output] + result.states
    }
  }

  @Test(arguments: NamedCell.all, [DType.float32, .bfloat16])
  func matchesTheEquation(_ named: NamedCell, _ dtype: DType) throws {
    // bf16 feeds a rounded hidden state back in one of the two, so the difference grows with the steps.
    let output = dtype == .bfloat16 ? Tolerance(ratio: 1.5e-2, floor: 1e-4) : .fused(dtype)
    let gradient = dtype == .bfloat16 ? Tolerance(ratio: 3e-2, floor: 1e-3) : .fusedGradient(dtype)
    try onEveryPath { path in
      var random = TestRandom("recurrence \(named.name) \(dtype)")
      let sizes = [
        (1, 1, 1, 1), (2, 3, 2, 1), (3, 2, 63, 1), (1, 65, 3, 3), (2, 7, 64, 1), (1, 4, 65, 5), (5, 3, 100, 2),
        (3, 9, 66, 2), (1, 8, 131, 1), (7, 10, 48, 3),
      ]
      for (index, (batch, length, width, heads)) in sizes.enumerated() {
        for isRagged in [false, true] {
          var problem = Problem(batch: batch, length: length, width: width, heads: heads, hasBias: index % 2 == 1)
          if isRagged {
            problem.resets = try random.flags([batch, length], probability: 0.3)
            problem.valid = try random.flags([batch, length], probability: 0.7)
          }
          try expectSame(
            "\(named.name) \(dtype) \(problem)", problem.inputs(named.cell, dtype, &random), output: output,
            gradient: gradient, fused: { try problem.run(named.cell, $0) },
            reference: { try problem.run(named.cell, $0, isFused: false) })
        }
      }
    }
  }

  /// A gradient at one output alone: the others are absent, not zero.
  @Test(arguments: NamedCell.all) func gradientsByDifferences(_ named: NamedCell) throws {
    var random = TestRandom()
    var problem = Problem(batch: 2, length: 8, width: 4, heads: 2, hasBias: true)
    problem.resets = try Tensor([0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0].map { UInt8($0) }, shape: [2, 8])
    problem.valid = try Tensor([1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1].map { UInt8($0) }, shape: [2, 8])
    try gradientCheck("\(named.name)", problem.inputs(named.cell, .float32, &random)) {
      try problem.run(named.cell, $0)
    }
  }

  /// sLSTM's normaliser grows like e^100 a token here, and shrinks to nothing: both would leave f32 within a token or two.
  @Test func exponentialGatesNeitherOverflowNorVanish() throws {
    var random = TestRandom()
    let problem = Problem(batch: 2, length: 30, width: 5)
    for strength: Float in [-300, 100, 300] {
      var inputs = try problem.inputs(.slstm, .float32, &random)
      let gates = try Tensor([strength, -strength, 0, 0], shape: [4, 1]) + Tensor.zeros([4, 5])
      inputs[0] = try inputs[0] + gates.reshaped([20])
      inputs[4] = try Tensor.full([2, 5], -.infinity)
      try expectSame(
        "sLSTM, gates of \(strength)", inputs, output: .fused(.float32), gradient: .fusedGradient(.float32),
        fused: { try problem.run(.slstm, $0) }, reference: { try problem.run(.slstm, $0, isFused: false) })
    }
  }

  @Test(arguments: NamedCell.all) func threadsDoNotMatter(_ named: NamedCell) throws {
    var random = TestRandom()
    // Few rows of wide heads, where steps are split between threads, and many rows and heads, where those are.
    for problem in [Problem(batch: 1, length: 8, width: 300), Problem(batch: 5, length: 9, width: 70, heads: 2)] {
      for dtype in [DType.float32, .bfloat16] {
        let inputs = try problem.inputs(named.cell, dtype, &random)
        try expectThreadsDoNotMatter("\(named.name) \(dtype) \(problem)") {
          let (outputs, found) = try outputsAndGradients(inputs) { try problem.run(named.cell, $0) }
          return outputs + found.compactMap { $0 }
        }
      }
    }
  }

  @Test(arguments: NamedCell.all) func emptyPiecesChangeNothing(_ named: NamedCell) throws {
    var random = TestRandom()
    let problem = Problem(length: 0, width: 6)
    let inputs = try problem.inputs(named.cell, .float32, &random)
    let results = try problem.run(named.cell, inputs)
    #expect(results[0].shape == [2, 0, 6])
    for (result, state) in zip(results.dropFirst(), inputs.dropFirst(2)) { try expectSameBits(result, state) }
  }

  @Test func wrongShapesThrow() throws {
    let (x, r, h) = (try Tensor.zeros([2, 4, 12]), try Tensor.zeros([12, 3]), try Tensor.zeros([2, 3]))
    func run(
      _ projections: Tensor? = nil, _ recurrent: Tensor? = nil, _ bias: Tensor? = nil, _ states: [Tensor]? = nil,
      resets: Tensor? = nil, valid: Tensor? = nil
    ) throws -> RecurrentResult {
      try recurrentScan(
        .lstm, projections: projections ?? x, recurrent: recurrent ?? r, bias: bias, states: states ?? [h, h],
        resets: resets, valid: valid)
    }
    _ = try run()
    let wrong: [() throws -> RecurrentResult] = [
      { try run(nil, Tensor.zeros([12, 4])) }, { try run(nil, Tensor.zeros([12, 2])) },
      { try run(nil, nil, Tensor.zeros([3])) }, { try run(nil, nil, nil, [h]) },
      { try run(nil, nil, nil, [Tensor.zeros([1, 3]), h]) }, { try run(nil, nil, nil, [h, h.cast(to: .bfloat16)]) },
      { try run(resets: Tensor.zeros([2, 4], .int32)) }, { try run(valid: Tensor.zeros([2, 3], .uint8)) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
  }

  /// torch.nn.LSTM, torch.nn.GRU and the xlstm package's sLSTM.
  @Test(.enabled("the golden file is missing") { Golden.exists("recurrences") }, arguments: NamedCell.all, [1, 2])
  func givesOutsideAnswers(_ named: NamedCell, heads: Int) throws {
    let (golden, cell) = (try Golden("recurrences"), named.cell)
    func stored(_ name: String) throws -> Tensor { try golden("\(named.name)\(heads)/\(name)") }
    let startsEmpty = named.name == "slstm"
    let bias = named.name == "gru" ? try stored("bias") : nil
    let names = ["projections", "recurrent"] + (startsEmpty ? [] : cell.states.map { "initial/\($0)" })
    try onEveryPath { path in
      for run in [recurrentScan, recurrentReference] {
        let leaves = try names.map { try stored($0).tracked() }
        let leafBias = bias?.tracked()
        let states = startsEmpty ? try cell.emptyStates(batch: 2, width: 8) : Array(leaves[2...])
        let result = try run(cell, leaves[0], leaves[1], leafBias, states, nil, nil)
        var seeds: [(Tensor, Tensor?)] = [(result.output, try stored("doutput"))]
        try expectClose(result.output.detached, stored("output"), .fused(.float32), "\(named.name) output")
        for (name, state) in zip(cell.states, result.states) {
          try expectClose(state.detached, stored("final/\(name)"), .fused(.float32), "\(named.name) final \(name)")
          seeds.append((state, try stored("dfinal/\(name)")))
        }
        let found = try gradients(of: seeds)
        for (name, leaf) in zip(names + (bias == nil ? [] : ["bias"]), leaves + (leafBias.map { [$0] } ?? [])) {
          guard let gradient = found[leaf] else { throw Mismatch("\(named.name): no gradient of \(name)") }
          try expectClose(
            gradient, stored("gradient/\(name)"), .fusedGradient(.float32), "\(named.name) gradient of \(name)")
        }
      }
    }
  }
}
