import Fermata
import Foundation

/// One LSTM layer of width 256 over 8 × 1,024 tokens, forwards and backwards (gradients of its weights), f32.
struct LSTMGradient: Row {
  private static let (batch, length, width) = (8, 1024, 256)
  let name = "lstm"
  let title = "LSTM, width 256, 8 × 1,024, forward + backward, f32"
  let goal = Goal.timesPeer(1.5)
  var quantity: Quantity { .rate(Double(Self.batch * Self.length), "tokens/s") }
  var work: MachineWork? {
    // Two products of 4 width² forwards, and three such backwards: dR and dW, and the way back through R.
    .flops(Double(Self.batch * Self.length) * 5 * 8 * Double(Self.width * Self.width), .float32)
  }
  let peer: PeerProgram? = PeerProgram(module: "lstm", settings: ["width": .int(LSTMGradient.width)])

  private struct Run {
    let x, input, recurrent, bias: Tensor

    init(batch: Int, length: Int, seed: UInt64 = 7) throws {
      var random = RandomSource(seed: seed)
      x = try random.normal([batch, length, width])
      input = try random.uniform([4 * width, width], -1 / 16, 1 / 16)
      recurrent = try random.uniform([4 * width, width], -1 / 16, 1 / 16)
      bias = try random.uniform([4 * width], -1 / 16, 1 / 16)
    }

    /// Outputs, and the gradients of their sum in W, R and b.
    func callAsFunction() throws -> [Tensor] {
      let leaves = [input, recurrent, bias].map { $0.tracked() }
      let zero = try Tensor.zeros([x.shape[0], width])
      let result = try recurrentScan(
        .lstm, projections: linear(x, weight: leaves[0], bias: leaves[2]), recurrent: leaves[1], states: [zero, zero])
      let found = try gradients(of: [(result.output, Tensor.ones(result.output.shape))])
      return [result.output] + leaves.compactMap { found[$0] }
    }

    /// Outputs in f64, one token after another, from the equations, at weights `step` along a direction.
    func oracle(_ step: Double = 0, along direction: Run? = nil) throws -> [Double] {
      func at(_ field: (Run) -> Tensor) throws -> [Double] {
        let moved = try direction.map { try field($0).floats() }
        return try field(self).floats().enumerated().map { Double($1) + step * Double(moved?[$0] ?? 0) }
      }
      let (rows, w, r, b) = (try x.floats(), try at(\.input), try at(\.recurrent), try at(\.bias))
      let (batch, length) = (x.shape[0], x.shape[1])
      var output = [Double](repeating: 0, count: batch * length * width)
      for row in 0..<batch {
        var hidden = [Double](repeating: 0, count: width)
        var cell = hidden
        for token in 0..<length {
          let at = (row * length + token) * width
          let gates = (0..<4 * width).map { gate in
            (0..<width).reduce(b[gate]) {
              $0 + w[gate * width + $1] * Double(rows[at + $1]) + r[gate * width + $1] * hidden[$1]
            }
          }
          func sigmoid(_ index: Int) -> Double { 1 / (1 + exp(-gates[index])) }
          for i in 0..<width {
            cell[i] = sigmoid(width + i) * cell[i] + sigmoid(i) * tanh(gates[2 * width + i])
            hidden[i] = sigmoid(3 * width + i) * tanh(cell[i])
            output[at + i] = hidden[i]
          }
        }
      }
      return output
    }
  }

  /// The derivative of the sum of outputs along a random direction of the weights, against differences of the oracle.
  private func slopeCheck(_ run: Run, _ gradients: ArraySlice<Tensor>) throws -> Check {
    let direction = try Run(batch: 1, length: 1, seed: 8)
    let slope = try zip(gradients, [direction.input, direction.recurrent, direction.bias]).reduce(0.0) { sum, pair in
      try zip(pair.0.floats(), pair.1.floats()).reduce(sum) { $0 + Double($1.0) * Double($1.1) }
    }
    let step = 1e-3
    let difference =
      (try run.oracle(step, along: direction).reduce(0, +) - run.oracle(-step, along: direction).reduce(0, +))
      / (2 * step)
    return Check("gradients along a random direction against differences", [slope], [difference], allowed: 1e-4)
  }

  func prepare() throws -> Subject {
    let small = try Run(batch: 2, length: 20)
    let found = try small()
    let check = Check(
      "outputs against one token after another in f64", try found[0].floats().map(Double.init), try small.oracle(),
      allowed: 1e-5)
    let run = try Run(batch: Self.batch, length: Self.length)
    let results = try run()
    return Subject(
      checks: [check, try slopeCheck(small, found.dropFirst())],
      inputs: [("x", run.x), ("input", run.input), ("recurrent", run.recurrent), ("bias", run.bias)],
      expected: zip(["output", "dinput", "drecurrent", "dbias"], results).map { ($0, $1, 5e-5) },
      sample: { try seconds { _ = try run() } })
  }
}
