import Fermata

/// A mixer on inputs of its own, held to its own single steps and to differences.
struct MixerOracle {
  let mixer: any Mixer
  let x, doutput: Tensor
  private static let (batch, length) = (2, 150)

  init(_ mixer: any Mixer, width: Int) throws {
    var random = RandomSource(seed: 9)
    self.mixer = mixer
    x = try random.normal([Self.batch, Self.length, width])
    doutput = try random.normal([Self.batch, Self.length, width])
  }

  private func output(_ x: Tensor) throws -> Tensor {
    var state = try mixer.initialState(batch: Self.batch)
    return try mixer(Piece(x), state: &state)
  }

  /// The output, and the gradient of ⟨output, doutput⟩ in x.
  func results() throws -> (output: Tensor, dx: Tensor?) {
    let leaf = x.tracked()
    let y = try output(leaf)
    return (y.detached, try gradients(of: [(y, doutput)])[leaf])
  }

  private func tokenByToken() throws -> Tensor {
    var state = try mixer.initialState(batch: Self.batch)
    return try Tensor.concatenated(
      (0..<Self.length).map { try mixer(Piece(x.slice($0..<$0 + 1, axis: 1)), state: &state) }, axis: 1)
  }

  /// ⟨f(x + t v), doutput⟩
  private func value(_ t: Float, along v: Tensor) throws -> Double {
    try zip(output(x + v * t).floats(), doutput.floats()).reduce(0) { $0 + Double($1.0) * Double($1.1) }
  }

  func checks() throws -> [Check] {
    let (y, dx) = try results()
    var random = RandomSource(seed: 10)
    let (v, step) = (try random.normal(x.shape), Float(0.01))
    let slope = try zip(dx?.floats() ?? [], v.floats()).reduce(0) { $0 + Double($1.0) * Double($1.1) }
    let difference = (try value(step, along: v) - value(-step, along: v)) / Double(2 * step)
    return [
      try Check("a layer's output against one token after another", y, tokenByToken(), allowed: 1e-5),
      Check("its gradient along a random direction against differences", [slope], [difference], allowed: 2e-3),
    ]
  }
}
