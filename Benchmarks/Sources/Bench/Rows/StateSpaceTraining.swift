import Fermata

/// Training steps of a model of state-space layers: width 256, 6 layers, AdamW.
struct StateSpaceTraining: Row {
  let kind: StateSpaceModel
  let dtype: DType
  private static let length = 1024

  var name: String { "\(kind.name)-\(dtype.short)" }
  var title: String {
    "training, \(kind.title), width 256, 6 layers, \(kind.batch) × \(Self.length), AdamW, \(dtype.short)"
  }
  var goal: Goal { .timesPeer(kind.goal) }
  var quantity: Quantity { .rate(Double(kind.batch * Self.length), "tokens/s") }
  var peer: PeerProgram? { kind.peer(["batch": .int(kind.batch), "length": .int(Self.length)], dtype: dtype) }

  /// In bf16 the loss and the gradient of the embedding are held to those in f32. How much a gradient answers to rounding
  /// depends on the model: what rounding the weights alone does to it, computed in f32, is the measure.
  private func typeChecks(_ step: TrainingStep) throws -> [Check] {
    if dtype == .float32 { return [] }
    let single = try TrainingStep(kind.configuration(), dtype: .float32, batch: kind.batch, length: Self.length)
    func embedding(_ gradient: LossGradient) throws -> Tensor {
      let name = "model.embed_tokens.weight"
      guard let found = gradient.gradients[name] else { throw BenchError("the model has no gradient of \(name)") }
      return found
    }
    let (ours, wanted) = (try step.gradient(), try single.gradient())
    let expected = try embedding(wanted)
    let rounded = try single.gradient(of: single.model.converted(to: .bfloat16).converted(to: .float32))
    let conditioning = try Check("", embedding(rounded), expected, allowed: 0).error
    return [
      Check("loss against f32", [ours.loss], [wanted.loss], allowed: 1e-3),
      try Check(
        "gradient against f32, three times what rounding the weights does", embedding(ours), expected,
        allowed: 3 * conditioning),
    ]
  }

  func prepare() throws -> Subject {
    let step = try TrainingStep(kind.configuration(), dtype: dtype, batch: kind.batch, length: Self.length)
    let layer = try MixerOracle(step.model.blocks[0].mixer, width: 256)
    let (output, dx) = try layer.results()
    return Subject(
      checks: try layer.checks() + typeChecks(step),
      inputs: try layer.mixer.parameters() + [("x", layer.x), ("doutput", layer.doutput)],
      expected: [("output", output, 2e-5)] + (dx.map { [("dx", $0, 1e-4)] } ?? []),
      sample: { try seconds { try step.advance() } })
  }
}

/// Logits of a prompt of 1,024 tokens by a Mamba of width 256 and 6 layers.
struct StateSpacePrefill: Row {
  let name = "mamba-prefill"
  let title = "prefill, Mamba, width 256, 6 layers, 1 × 1,024, f32"
  let goal = Goal.timesPeer(10)
  private static let length = 1024
  var quantity: Quantity { .rate(Double(Self.length), "tokens/s") }
  var peer: PeerProgram? {
    StateSpaceModel.mamba.peer(
      ["batch": .int(1), "length": .int(Self.length), "prefill": .bool(true)], dtype: .float32)
  }

  func prepare() throws -> Subject {
    let model = try LanguageModel(StateSpaceModel.mamba.configuration(), seed: 1)
    let tokens = try TrainingStep.tokens(batch: 1, length: Self.length, vocabulary: 256).tokens
    let layer = try MixerOracle(model.blocks[0].mixer, width: 256)
    return Subject(
      checks: try layer.checks(),
      inputs: try layer.mixer.parameters() + [("x", layer.x), ("doutput", layer.doutput)],
      expected: [("output", try layer.results().output, 2e-5)],
      sample: {
        try seconds {
          var state = try model.initialState(batch: 1)
          _ = try model.logits(tokens, state: &state)
        }
      })
  }
}

/// A model that Hugging Face has as well.
struct StateSpaceModel {
  let name: String
  let title: String
  let mixer: JSONValue
  let batch: Int
  let goal: Double

  static let mamba = StateSpaceModel(
    name: "mamba", title: "Mamba", mixer: ["type": "mamba", "state_size": 16], batch: 2, goal: 20)
  static let mamba2 = StateSpaceModel(
    name: "mamba2", title: "Mamba-2",
    mixer: ["type": "mamba2", "num_heads": 8, "head_dim": 64, "state_size": 64], batch: 4, goal: 6)

  func configuration() throws -> ModelConfiguration {
    try ModelConfiguration(
      vocabularySize: 256, layers: 6, feedForwardWidth: 0, mixers: [mixer], tokenizer: "none", beginToken: 0)
  }

  func peer(_ settings: [String: JSONValue], dtype: DType) -> PeerProgram {
    PeerProgram(
      module: "state_space",
      settings: settings.merging(["kind": .string(name), "dtype": .string(dtype.short)]) { first, _ in first })
  }
}
