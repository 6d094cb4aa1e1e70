import Fermata

/// Training time per token of one sequence of 65,536 tokens over that of 16 of 4,096: 1 when length costs nothing.
struct LengthFlatness: Row {
  let name: String
  let title: String
  let quantity = Quantity.factor
  let goal = Goal.atMost(1.1)
  private let mixer: JSONValue
  private let checks: @Sendable () throws -> [Check]

  private static let window = 256

  static let linear = LengthFlatness(
    name: "flatness-linear",
    title: "linear model, bf16: training time per token at 1 × 65,536 over 16 × 4,096",
    mixer: linearMixer,
    checks: {
      let model = try LanguageModel(configuration(linearMixer), seed: 1)
      return [try GatedScanOracle.check(gateIsVector: true)]
        + (try MixerOracle(model.blocks[0].mixer, width: 256).checks())
    })
  private static let linearMixer: JSONValue = ["type": "gated_linear_attention", "num_heads": 4]

  static let windowed = LengthFlatness(
    name: "flatness-windowed",
    title: "model with a window of 256, bf16: training time per token at 1 × 65,536 over 16 × 4,096",
    mixer: ["type": "softmax_attention", "num_attention_heads": 4, "sliding_window": .int(window)],
    checks: {
      let narrow: JSONValue = ["type": "softmax_attention", "num_attention_heads": 4, "sliding_window": 37]
      return try TransformerOracle.checks(
        configuration(narrow), dtype: .bfloat16, heads: 4, window: 37, length: 150)
    })

  private static func configuration(_ mixer: JSONValue) throws -> ModelConfiguration {
    try ModelConfiguration(
      vocabularySize: 256, layers: 6, feedForwardWidth: 704, mixers: [mixer], tokenizer: "none", beginToken: 0)
  }

  func prepare() throws -> Subject {
    let configuration = try Self.configuration(mixer)
    let long = try TrainingStep(configuration, dtype: .bfloat16, batch: 1, length: 65_536)
    let short = try TrainingStep(configuration, dtype: .bfloat16, batch: 16, length: 4096)
    return Subject(
      checks: try checks(),
      sample: { try seconds { try long.advance() } / seconds { try short.advance() } })
  }
}
