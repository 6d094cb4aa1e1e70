import FermataFiles
import FermataLayers
import FermataMixers
import FermataModels
import FermataTasks
import FermataTensors

/// Everything that decides what a training on a synthetic task does, besides the model and the task.
public struct TaskOptions: Codable, Sendable, Equatable {
  /// The most optimiser steps.
  public var steps = 2000
  /// Sequences of a step.
  public var batch = 32
  public var learningRate = 3e-3
  public var schedule = CosineSchedule.name
  public var warmup = 50
  public var weightDecay = 0.01
  public var clip = 1.0
  /// Of weights and sequences.
  public var seed: UInt64 = 1
  /// Tokens of the sequences that are graded; nil: as in training.
  public var evaluationLength: Int?
  /// Sequences graded on the way; four times as many, and others, are graded at the end.
  public var evaluationCount = 256
  /// Steps between gradings.
  public var evaluationInterval = 100
  /// Training ends early at this accuracy on the graded sequences.
  public var target = 0.995

  public init() {}

  /// Throws when a setting makes no sense.
  public func validate() throws {
    func check(_ name: String, _ holds: Bool, _ problem: String) throws {
      if !holds { throw TrainingError.setting(name, problem) }
    }
    let counts = [
      ("steps", steps), ("batch", batch), ("evaluation count", evaluationCount),
      ("evaluation interval", evaluationInterval),
    ]
    for (name, value) in counts {
      try check(name, (1...1 << 20).contains(value), "must be in 1...2²⁰, got \(value)")
    }
    try check("learning rate", learningRate > 0 && learningRate.isFinite, "must be above 0, got \(learningRate)")
    try check("warmup", (0...1 << 20).contains(warmup), "must be in 0...2²⁰, got \(warmup)")
    try check("weight decay", weightDecay >= 0 && weightDecay.isFinite, "must be at least 0, got \(weightDecay)")
    try check("clip", clip >= 0 && clip.isFinite, "must be at least 0, got \(clip)")
    try check("target", target > 0 && target.isFinite, "must be above 0, got \(target)")
  }
}

/// Trains a model of token ids on a synthetic task and grades its answers.
public struct TaskTrainer: Sendable {
  public private(set) var model: LanguageModel
  public let options: TaskOptions
  private let task: any SyntheticTask
  private let evaluationLength: Int
  private let schedule: any Schedule
  private var optimizer: AdamW
  private var random: TaskRandom

  /// Streams of draws of one seed: what is trained on, what is graded on the way, and at the end.
  private enum Stream: UInt64 { case training = 1, grading, final }

  /// A fresh model of `layers` blocks whose mixers repeat.
  public init(
    _ task: any SyntheticTask, width: Int, layers: Int, mixers: [JSONValue], options: TaskOptions,
    registry: MixerRegistry = .standard
  ) throws {
    try options.validate()
    evaluationLength = options.evaluationLength ?? task.length
    guard (task.length...1 << 20).contains(evaluationLength) else {
      throw TrainingError.setting(
        "evaluation length",
        "must be at least the \(task.length) tokens of training and at most 2²⁰, got \(evaluationLength)")
    }
    let (size, overflow) = options.batch.multipliedReportingOverflow(by: evaluationLength)
    guard !overflow, size < 1 << 26 else {
      throw TrainingError.setting(
        "batch × length", "must be below 2²⁶ tokens, got \(options.batch) × \(evaluationLength)")
    }
    let configuration = try ModelConfiguration(
      vocabularySize: task.vocabularySize, width: width, layers: layers, mixers: mixers, tiesEmbeddings: false,
      tokenizer: "none", beginToken: 0)
    model = try LanguageModel(configuration, registry: registry, seed: options.seed)
    schedule = try Schedules.named(options.schedule)
    optimizer = AdamW(weightDecay: options.weightDecay)
    random = TaskRandom(seed: options.seed, stream: Stream.training.rawValue)
    (self.task, self.options) = (task, options)
  }

  /// Steps done.
  public var step: Int { optimizer.step }

  /// One optimiser step on fresh sequences. Returns the mean loss in nats per answer; when it or the gradient is not finite this
  /// throws and changes no weight.
  public mutating func advance() throws -> Double {
    let batch = task.batch(options.batch, length: task.length, isGraded: false, random: &random)
    let mean = 1 / Double(max(batch.targetCount, 1))
    let found = try PiecewiseGradient.truncated(
      model, batch.piece(fresh: true), state: model.initialState(batch: batch.batch), scale: Float(mean))
    let norm = try gradientNorm(found.gradients)
    guard found.loss.isFinite, norm.isFinite else {
      throw TrainingError.notFinite(what: "loss or gradient", step: step + 1, kept: "no weight was changed")
    }
    let rate =
      options.learningRate * Schedules.share(schedule, step: step, warmup: options.warmup, total: options.steps)
    try optimizer.update(
      &model, gradients: found.gradients, learningRate: rate,
      gradientScale: options.clip > 0 && norm > options.clip ? options.clip / norm : 1)
    return found.loss * mean
  }

  /// The part of the answers that are right on graded sequences, always the same ones for a seed.
  /// - Parameter isFinal: grade four times as many sequences, others than on the way, so that having stopped at a good moment does
  ///   not count.
  public func accuracy(isFinal: Bool = false) throws -> Double {
    var random = TaskRandom(seed: options.seed, stream: (isFinal ? Stream.final : .grading).rawValue)
    var left = options.evaluationCount * (isFinal ? 4 : 1)
    var (right, all) = (0, 0)
    while left > 0 {
      let count = min(left, options.batch)
      let batch = task.batch(count, length: evaluationLength, isGraded: true, random: &random)
      var state = try model.initialState(batch: count)
      let piece = try batch.piece(fresh: true)
      let answers = try model.logits(piece.tokens, layout: piece.layout, state: &state).argmax(axis: 2)
        .values(as: Int32.self)
      for (answer, target) in zip(answers, batch.targets) where target >= 0 {
        all += 1
        if answer == target { right += 1 }
      }
      left -= count
    }
    return Double(right) / Double(max(all, 1))
  }
}
