import Fermata

/// Training steps of a Mamba-2 model: width 256, 6 layers, 8 heads of 64, state 64, 4 × 1,024 tokens, AdamW.
///
/// The peer's blocks are mixers alone. Ours always have a feed-forward; here it is one feature wide.
struct Mamba2Training: Row {
  private static let (batch, length, width) = (4, 1024, 256)
  let name = "mamba2"
  let title = "training, Mamba-2, width 256, 6 layers, 4 × 1,024, AdamW, f32"
  let goal = Goal.timesPeer(6)
  var quantity: Quantity { .rate(Double(Self.batch * Self.length), "tokens/s") }
  let peer: PeerProgram? = PeerProgram(
    module: "mamba2", settings: ["batch": .int(Mamba2Training.batch), "length": .int(Mamba2Training.length)])

  /// The first layer's mixer on inputs of its own.
  private struct Layer {
    let mixer: any Mixer
    let x, doutput: Tensor

    init(_ mixer: any Mixer) throws {
      var random = RandomSource(seed: 9)
      self.mixer = mixer
      x = try random.normal([2, 150, width])
      doutput = try random.normal([2, 150, width])
    }

    func results() throws -> (output: Tensor, dx: Tensor?) {
      let leaf = x.tracked()
      var state = try mixer.initialState(batch: 2)
      let y = try mixer(Piece(leaf), state: &state)
      return (y.detached, try gradients(of: [(y, doutput)])[leaf])
    }

    func tokenByToken() throws -> Tensor {
      var state = try mixer.initialState(batch: 2)
      return try Tensor.concatenated(
        (0..<x.shape[1]).map { try mixer(Piece(x.slice($0..<$0 + 1, axis: 1)), state: &state) }, axis: 1)
    }
  }

  func prepare() throws -> Subject {
    let configuration = try ModelConfiguration(
      vocabularySize: 256, feedForwardWidth: 1,
      mixers: [["type": "mamba2", "num_heads": 8, "head_dim": 64, "state_size": 64]], tokenizer: "none", beginToken: 0)
    let step = try TrainingStep(configuration, dtype: .float32, batch: Self.batch, length: Self.length)
    let layer = try Layer(step.model.blocks[0].mixer)
    let (output, dx) = try layer.results()
    return Subject(
      checks: [
        try GatedScanOracle.check(gateIsVector: false),
        try Check("a layer's output against one token after another", output, layer.tokenByToken(), allowed: 1e-5),
      ],
      inputs: try layer.mixer.parameters() + [("x", layer.x), ("doutput", layer.doutput)],
      expected: [("output", output, 2e-5)] + (dx.map { [("dx", $0, 1e-4)] } ?? []),
      sample: { try seconds { try step.advance() } })
  }
}
