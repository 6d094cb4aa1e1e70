import Fermata

/// Training steps of a Mamba-2-shaped model: a decaying matrix per head with a scalar decay, width 256, 6 layers, 4 × 1,024.
struct Mamba2Training: Row {
  private static let (batch, length) = (4, 1024)
  let name = "mamba2"
  let title = "training, Mamba-2-shaped model (scalar gates), width 256, 6 layers, 4 × 1,024, f32"
  let goal = Goal.timesPeer(6)
  var quantity: Quantity { .rate(Double(Self.batch * Self.length), "tokens/s") }
  var peer: PeerProgram? {
    PeerProgram(module: "mamba2", settings: ["batch": .int(Self.batch), "length": .int(Self.length)])
  }

  func prepare() throws -> Subject {
    let configuration = try ModelConfiguration(
      vocabularySize: 256,
      mixers: [["type": "gated_linear_attention", "num_heads": 8, "key_dim": 64, "gate": "scalar"]], tokenizer: "none",
      beginToken: 0)
    let step = try TrainingStep(configuration, dtype: .float32, batch: Self.batch, length: Self.length)
    return Subject(
      checks: [try GatedScanOracle.check(gateIsVector: false)], sample: { try seconds { try step.advance() } })
  }
}
