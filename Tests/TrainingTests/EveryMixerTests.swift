import FermataFiles
import FermataInference
import FermataLayers
import FermataMixers
import FermataModels
import FermataTasks
import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataTraining

/// Every mixer of the table in a hybrid with another: it trains, its run resumes, and the trained model streams.
@Suite(.serialized) struct EveryMixerTests {
  static let names = MixerRegistry.standard.entries.map(\.name)

  /// A mixer's first example that this width takes.
  private func configuration(_ name: String, width: Int = 24) throws -> JSONValue {
    let entry = try #require(MixerRegistry.standard.entries.first { $0.name == name })
    for example in entry.examples {
      var fields = try #require(StrictJSON.parse(Array(example.utf8), place: name).objectValue)
      fields["type"] = .string(name)
      var random = RandomSource(seed: 1)
      let configuration = JSONValue.object(fields)
      if (try? MixerRegistry.standard.make(width: width, configuration: configuration, random: &random)) != nil {
        return configuration
      }
    }
    throw Mismatch("\(name): no example fits width \(width)")
  }

  private func trainer(_ name: String, _ options: TrainingOptions, feedForwardWidth: Int) throws -> Trainer {
    let partner = name == "softmax_attention" ? Fixture.linear : Fixture.windowed
    let configuration = try Fixture.configuration(
      width: 24, layers: 2, feedForwardWidth: feedForwardWidth, mixers: [self.configuration(name), partner])
    let batches = try PackedBatches(
      Fixture.documents(), batch: options.batch, length: options.length, beginToken: 256, mode: options.packing,
      seed: options.seed)
    return try Trainer(LanguageModel(configuration, seed: 3), batches: batches, options: options)
  }

  @Test(arguments: names, [DType.float32, .bfloat16]) func trainsResumesAndStreams(_ name: String, _ dtype: DType)
    throws
  {
    try trainsResumesAndStreams(name, dtype, feedForwardWidth: 48)
  }

  @Test(arguments: ["mamba2", "lstm"]) func needsNoFeedForward(_ name: String) throws {
    try trainsResumesAndStreams(name, .float32, feedForwardWidth: 0)
  }

  private func trainsResumesAndStreams(_ name: String, _ dtype: DType, feedForwardWidth: Int) throws {
    let folder = try Fixture.Folder()
    let options = Fixture.options {
      $0.steps = 6
      $0.length = 20
      $0.learningRate = 1e-2
      $0.computeType = dtype
      $0.packing = .stream
    }
    var trainer = try trainer(name, options, feedForwardWidth: feedForwardWidth)
    let before = try (0..<3).map { _ in try trainer.advance().loss }
    let path = folder.path + "/last"
    let record = Checkpoint.Record(
      settings: RunSettings(data: "text", options: options), step: trainer.step, cursor: trainer.batches.cursor,
      best: nil, seconds: 0, path: Processor.path, threads: Processor.threads, hasCarriedState: true)
    try Checkpoint.write(trainer, record: record, to: path)
    let after = try (0..<3).map { _ in try trainer.advance().loss }
    #expect(after[2] < before[0], "\(name): losses \(before + after)")
    var resumed = try Trainer(ModelFolder.load(path), batches: trainer.batches, options: options)
    try Checkpoint.restore(&resumed, record: Checkpoint.record(in: path), from: path)
    #expect(try (0..<3).map { _ in try resumed.advance().loss } == after, "\(name): losses after a resumption")
    try streams(trainer.model, folder.path, name)
  }

  /// The same scores read as one piece, in pieces, and token by token, through a saved state.
  private func streams(_ model: LanguageModel, _ folder: String, _ name: String) throws {
    var random = TestRandom("streams \(name)")
    let tokens = [256] + (0..<50).map { _ in random.int(97...122) }
    func scores(piece: Int, saving: Bool = false) throws -> [Double] {
      var session = try StreamingSession(model, pieceLength: piece)
      var found = try session.score(Array(tokens.prefix(20)))
      if saving {
        try StateFile.save(session.state, of: model, to: folder + "/state")
        session = try StreamingSession(
          model, state: StateFile.load(folder + "/state", for: model, batch: 1), logits: session.logits,
          pieceLength: piece)
      }
      found += try session.score(Array(tokens.dropFirst(20)))
      return found.compactMap { $0.map { Double($0) } }
    }
    let whole = try scores(piece: 64)
    #expect(whole.count == 50)
    let tolerance =
      model.computeType == .bfloat16 ? Tolerance(ratio: 1e-2, floor: 0) : Tolerance(ratio: 1e-5, floor: 0)
    let stepwise = try scores(piece: 1)
    try expectClose(stepwise, whole, tolerance, "\(name): scores token by token")
    try expectClose(scores(piece: 7), whole, tolerance, "\(name): scores in pieces")
    #expect(try scores(piece: 1, saving: true) == stepwise, "\(name): through a saved state")
  }

  /// With a gradient of zero a step is weight decay alone: weights shrink, coefficients keep every bit.
  @Test(arguments: names) func coefficientsDoNotDecay(_ name: String) throws {
    var random = RandomSource(seed: 1)
    var mixer = try MixerRegistry.standard.make(width: 24, configuration: configuration(name), random: &random)
    var before = try mixer.parameters()[...]
    let zeros = try Dictionary(uniqueKeysWithValues: before.map { ($0.name, try Tensor.zeros($0.value.shape)) })
    var optimizer = AdamW(weightDecay: 0.5)
    try optimizer.update(&mixer, gradients: zeros, learningRate: 0.5)
    try mixer.updateParametersByRole { parameter, role, value in
      let old = before.removeFirst().value
      let expected = role == .weight ? try old * 0.75 : old
      try expectClose(value, expected, role == .weight ? .elementwise(.float32) : .exact, "\(name): \(parameter)")
    }
  }

  /// Rates of decay, steps and the like are declared as what they are, whatever their shape.
  @Test func whatIsNoWeightIsDeclared() throws {
    let coefficients = [
      "mamba": ["A_log", "D", "dt_proj.bias"], "mamba2": ["A_log", "D", "dt_bias"],
      "aaren": ["query", "k_proj.weight"],
      "s4": ["log_dt", "log_A_real", "A_imag", "P", "B", "D"], "s5": ["Lambda_re", "Lambda_im", "log_step", "D"],
      "s4d": ["kernel.log_dt", "kernel.log_A_real", "kernel.A_imag", "kernel.D"],
      "gated_delta_rule": ["A_log", "dt_bias"],
      "h3": ["kernel.log_dt", "kernel.log_A_real", "kernel.A_imag", "kernel.D"],
      "mixture_of_memories": ["router.weight"],
    ]
    for (name, expected) in coefficients {
      var random = RandomSource(seed: 1)
      var mixer = try MixerRegistry.standard.make(width: 24, configuration: configuration(name), random: &random)
      var found: Set<String> = []
      try mixer.updateParametersByRole { parameter, role, _ in if role == .coefficient { found.insert(parameter) } }
      #expect(found.isSuperset(of: expected), "\(name): \(found)")
    }
  }
}
