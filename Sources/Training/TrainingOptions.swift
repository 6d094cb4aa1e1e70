import FermataTasks
import FermataTensors

/// How gradients cross from one piece of an unbroken stream to the one before.
public enum StreamGradient: String, Codable, Sendable, CaseIterable {
  /// Not at all: the state is carried, its history is not (truncated backpropagation through time).
  case truncated
  /// Exactly: pieces are run again from their saved states, last first, so that memory does not grow with the context.
  case exact
}

/// Everything that decides what a training run does, besides the model and the data.
public struct TrainingOptions: Codable, Sendable, Equatable {
  /// Optimiser steps.
  public var steps = 1000
  /// Rows of a batch.
  public var batch = 8
  /// Tokens of a row, or of a piece of a stream.
  public var length = 512
  /// Batches whose gradients are added up for one step.
  public var accumulation = 1
  public var learningRate = 2e-3
  public var schedule = CosineSchedule.name
  public var warmup = 50
  public var weightDecay = 0.1
  public var beta1 = 0.9
  public var beta2 = 0.95
  public var epsilon = 1e-8
  /// The largest norm of the whole gradient; 0: no clipping.
  public var clip = 1.0
  /// Part of the features dropped after the embedding, each mixer and each feed-forward, against learning small texts by heart.
  public var dropout = 0.0
  public var seed: UInt64 = 0
  /// Type of activations; master weights stay f32.
  public var computeType = DType.float32
  public var packing = PackingMode.rows
  public var streamGradient = StreamGradient.truncated
  /// Pieces that one exact gradient spans.
  public var piecesPerContext = 8
  /// Steps between validations; 0: only at the end.
  public var validationInterval = 100
  /// The most batches of one validation.
  public var validationBatches = 20
  /// Steps between checkpoints; 0: only at the end.
  public var checkpointInterval = 100

  public init() {}

  /// Throws when a setting makes no sense.
  public func validate() throws {
    func check(_ name: String, _ holds: Bool, _ problem: String) throws {
      if !holds { throw TrainingError.setting(name, problem) }
    }
    for (name, value) in [("steps", steps), ("batch", batch), ("length", length), ("accumulation", accumulation)] {
      try check(name, value >= 1 && value <= 1 << 40, "must be at least 1, got \(value)")
    }
    let (tokens, overflow) = batch.multipliedReportingOverflow(by: length)
    try check("batch × length", !overflow && tokens < 1 << 31, "must be below 2³¹ tokens, got \(batch) × \(length)")
    try check("learning rate", learningRate > 0 && learningRate.isFinite, "must be above 0, got \(learningRate)")
    try check("warmup", warmup >= 0 && warmup <= 1 << 40, "must be in 0...2⁴⁰, got \(warmup)")
    try check("weight decay", weightDecay >= 0 && weightDecay.isFinite, "must be at least 0, got \(weightDecay)")
    try check(
      "betas", (0..<1).contains(beta1) && (0..<1).contains(beta2), "must be in 0..<1, got \(beta1) and \(beta2)")
    try check("epsilon", epsilon > 0 && epsilon.isFinite, "must be above 0, got \(epsilon)")
    try check("clip", clip >= 0 && clip.isFinite, "must be at least 0, got \(clip)")
    try check("dropout", dropout >= 0 && dropout < 1, "must be at least 0 and below 1, got \(dropout)")
    try check("compute type", computeType.isFloatingPoint, "must be F32 or BF16, got \(computeType.rawValue)")
    try check("pieces per context", piecesPerContext >= 1, "must be at least 1, got \(piecesPerContext)")
    let (context, isTooLong) = piecesPerContext.multipliedReportingOverflow(by: tokens)
    try check(
      "pieces × batch × length", !isTooLong && context < 1 << 31,
      "must be below 2³¹ tokens, got \(piecesPerContext) × \(batch) × \(length)")
    try check("validation interval", validationInterval >= 0, "must be at least 0, got \(validationInterval)")
    try check("validation batches", validationBatches >= 1, "must be at least 1, got \(validationBatches)")
    try check("checkpoint interval", checkpointInterval >= 0, "must be at least 0, got \(checkpointInterval)")
    try check(
      "gradient", packing == .stream || streamGradient == .truncated, "exact gradients across pieces need --stream")
    _ = try Schedules.named(schedule)
  }
}

extension TrainingOptions {
  /// Options that the record lacks, because an earlier version wrote it, keep their defaults.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    func read<Value: Decodable>(_ key: CodingKeys, _ value: inout Value) throws {
      value = try container.decodeIfPresent(Value.self, forKey: key) ?? value
    }
    self.init()
    try read(.steps, &steps)
    try read(.batch, &batch)
    try read(.length, &length)
    try read(.accumulation, &accumulation)
    try read(.learningRate, &learningRate)
    try read(.schedule, &schedule)
    try read(.warmup, &warmup)
    try read(.weightDecay, &weightDecay)
    try read(.beta1, &beta1)
    try read(.beta2, &beta2)
    try read(.epsilon, &epsilon)
    try read(.clip, &clip)
    try read(.dropout, &dropout)
    try read(.seed, &seed)
    try read(.computeType, &computeType)
    try read(.packing, &packing)
    try read(.streamGradient, &streamGradient)
    try read(.piecesPerContext, &piecesPerContext)
    try read(.validationInterval, &validationInterval)
    try read(.validationBatches, &validationBatches)
    try read(.checkpointInterval, &checkpointInterval)
  }
}
