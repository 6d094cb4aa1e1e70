import Fermata

/// Training steps of a 4.9 M byte-level transformer: width 256, 6 layers, 4 heads, 8 × 1,024 tokens, AdamW.
struct TransformerTraining: Row {
  let dtype: DType
  private static let (batch, length, heads) = (8, 1024, 4)

  var name: String { "training-\(dtype.short)" }
  var title: String { "training, transformer of 4.9 M parameters, 8 × 1,024, AdamW, \(dtype.short)" }
  var quantity: Quantity { .rate(Double(Self.batch * Self.length), "tokens/s") }
  var goal: Goal { dtype == .bfloat16 ? .timesPeer(2) : .any([.timesPeer(1.2), .shareOfMachine(0.7)]) }
  var peer: PeerProgram? { PeerProgram(module: "transformer", settings: ["dtype": .string(dtype.short)]) }

  /// Six for every weight and token, and attention's products, of which the mask needs half.
  var work: MachineWork? {
    let (tokens, parameters) = (Double(Self.batch * Self.length), 4.9e6)
    return .flops(6 * parameters * tokens + 6 * 12 * Double(Self.length) * 256 * tokens / 2, dtype)
  }

  static func configuration(layers: Int = 6) throws -> ModelConfiguration {
    try ModelConfiguration(
      vocabularySize: 256, layers: layers, feedForwardWidth: 704,
      mixers: [["type": "softmax_attention", "num_attention_heads": .int(heads)]], tokenizer: "none", beginToken: 0)
  }

  func prepare() throws -> Subject {
    let configuration = try Self.configuration()
    let step = try TrainingStep(configuration, dtype: dtype, batch: Self.batch, length: Self.length)
    let inputs =
      try step.model.parameters() + [("tokens", step.piece.tokens), ("targets", step.piece.targets)]
    let gradient = try step.gradient().gradients["model.embed_tokens.weight"]
    let losses = try (0..<3).map { _ in Float(try step.advance()) }
    let allowed = dtype == .bfloat16 ? (loss: 5e-3, gradient: 5e-2) : (loss: 1e-5, gradient: 1e-4)
    return Subject(
      checks: try TransformerOracle.checks(configuration, dtype: dtype, heads: Self.heads),
      inputs: inputs,
      expected: [("losses", try Tensor(losses), allowed.loss)]
        + (gradient.map { [("gradient", $0, allowed.gradient)] } ?? []),
      sample: { try seconds { try step.advance() } })
  }
}
