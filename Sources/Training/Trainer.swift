import FermataLayers
import FermataMixers
import FermataModels
import FermataTasks
import FermataTensors
import Foundation

/// What one optimiser step did.
public struct StepReport: Sendable, Equatable {
  /// Steps done, this one included.
  public var step: Int
  /// Mean loss in nats per target.
  public var loss: Double
  public var learningRate: Double
  public var gradientNorm: Double
  /// Targets that counted.
  public var targets: Int

  /// Mean bits per byte, for models of bytes.
  public var bitsPerByte: Double { loss / log(2) }
}

/// Trains a model on batches. Everything that decides what comes next (weights, optimiser, data cursor, carried state) is
/// in its value, so a copy, or one restored from a checkpoint, goes on with the same losses bit for bit.
public struct Trainer: Sendable {
  public private(set) var model: LanguageModel
  public internal(set) var options: TrainingOptions
  public internal(set) var optimizer: AdamW
  public internal(set) var batches: PackedBatches
  /// The state carried from piece to piece of a stream.
  public internal(set) var carried: ModelState?
  private let schedule: any Schedule

  public init(_ model: LanguageModel, batches: PackedBatches, options: TrainingOptions) throws {
    try options.validate()
    schedule = try Schedules.named(options.schedule)
    if options.packing == .stream && model.cut != .causal {
      throw TrainingError.setting(
        "--stream", "the model may not be cut anywhere (scope '\(model.cut.rawValue)'), so its state cannot be carried")
    }
    self.model = model
    self.model.computeType = options.computeType
    self.options = options
    self.batches = batches
    optimizer = AdamW(
      beta1: options.beta1, beta2: options.beta2, epsilon: options.epsilon, weightDecay: options.weightDecay)
  }

  /// Steps done.
  public var step: Int { optimizer.step }

  /// The learning rate of the next step.
  public var learningRate: Double {
    options.learningRate * Schedules.share(schedule, step: step, warmup: options.warmup, total: options.steps)
  }

  /// One optimiser step. When the loss or the gradient is not finite it throws and changes no weight.
  public mutating func advance() throws -> StepReport {
    let rate = learningRate
    var total = 0.0
    var targets = 0
    var sums: [String: Tensor] = [:]
    for index in 0..<options.accumulation {
      let part = try gradient(index)
      total += part.result.loss
      targets += part.targets
      for (name, gradient) in part.result.gradients {
        sums[name] = try sums[name].map { try $0 + gradient } ?? gradient
      }
      if options.packing == .stream { carried = try part.result.state.compacted() }
    }
    // Losses are added up unscaled; the gradient's scale is applied by the optimiser.
    let mean = 1 / Double(max(targets, 1))
    let norm = try gradientNorm(sums) * mean
    guard total.isFinite else {
      throw TrainingError.notFinite(what: "loss", step: step + 1, kept: "no weight was changed")
    }
    guard norm.isFinite else {
      throw TrainingError.notFinite(what: "gradient", step: step + 1, kept: "no weight was changed")
    }
    let clipping = options.clip > 0 && norm > options.clip ? options.clip / norm : 1
    try optimizer.update(&model, gradients: sums, learningRate: rate, gradientScale: mean * clipping)
    return StepReport(step: step, loss: total * mean, learningRate: rate, gradientNorm: norm, targets: targets)
  }

  /// Gradient of the summed loss over the next batch, or over the next pieces of the stream.
  private mutating func gradient(_ index: Int) throws -> (result: LossGradient, targets: Int) {
    var model = model
    if options.dropout > 0 {
      // A seed for each batch: a run that resumes here draws it again.
      let count = UInt64(step) &* UInt64(options.accumulation) &+ UInt64(index)
      model.dropout = try Dropout(rate: Float(options.dropout), seed: options.seed &* 0x9E37_79B9_7F4A_7C15 &+ count)
    }
    let isStream = options.packing == .stream
    let state = try (isStream ? carried : nil) ?? model.initialState(batch: options.batch)
    if isStream && options.streamGradient == .exact {
      var pieces: [TokenPiece] = []
      var targets = 0
      for _ in 0..<options.piecesPerContext {
        let batch = batches.next()
        targets += batch.targetCount
        pieces.append(try batch.piece(fresh: false))
      }
      return (try PiecewiseGradient.exact(model, pieces, state: state, scale: 1), targets)
    }
    let batch = batches.next()
    let piece = try batch.piece(fresh: !isStream)
    return (try PiecewiseGradient.truncated(model, piece, state: state, scale: 1), batch.targetCount)
  }

  /// Mean loss in nats per target over validation batches.
  public func validationLoss(_ validation: ValidationBatches) throws -> Double {
    var total = 0.0
    var targets = 0
    var carried: ModelState?
    for batch in validation {
      var state = try (options.packing == .stream ? carried : nil) ?? model.initialState(batch: batch.batch)
      let piece = try batch.piece(fresh: options.packing == .rows)
      let result = try model.loss(piece.tokens, targets: piece.targets, layout: piece.layout, state: &state, scale: 1)
      total += Double(try result.losses.sum().item())
      targets += batch.targetCount
      carried = state
    }
    return total / Double(max(targets, 1))
  }

  /// Throws unless the weights, and the loss and gradient of one batch, are finite numbers: from weights where they are not,
  /// training could not go on, and a checkpoint of them would be worth nothing.
  func prove(on batch: TokenBatch?) throws {
    func fail(_ what: String) -> TrainingError {
      .notFinite(what: what, step: step, kept: "no checkpoint was replaced")
    }
    let weights = Dictionary(try model.parameters().map { ($0.name, $0.value) }) { first, _ in first }
    guard try gradientNorm(weights).isFinite else { throw fail("norm of the weights after the update") }
    guard let batch else { return }
    let piece = try batch.piece(fresh: options.packing == .rows)
    let found = try PiecewiseGradient.truncated(
      model, piece, state: model.initialState(batch: batch.batch), scale: 1 / Float(max(batch.targetCount, 1)))
    guard found.loss.isFinite else { throw fail("loss after the update") }
    guard try gradientNorm(found.gradients).isFinite else { throw fail("gradient after the update") }
  }

  /// Starts a stream from a state read elsewhere.
  mutating func begin(from state: ModelState) throws {
    guard options.packing == .stream else {
      throw TrainingError.setting(
        "--load-state", "only a stream (--stream) starts from a state; rows start from empty ones")
    }
    carried = state
  }
}

extension TokenBatch {
  /// This batch as tensors. `fresh` says that states are empty before it, so that a document's start in the first column
  /// needs no reset.
  public func piece(fresh: Bool) throws -> TokenPiece {
    let shape = [batch, length]
    let matters = resets.indices.contains { resets[$0] != 0 && !(fresh && $0 % length == 0) }
    let layout = Layout(batch: batch, length: length, resets: matters ? try Tensor(resets, shape: shape) : nil)
    return TokenPiece(
      tokens: try Tensor(inputs, shape: shape), targets: try Tensor(targets, shape: shape), layout: layout)
  }
}
