import FermataFiles
import FermataMixers
import FermataModels
import FermataReports
import FermataTasks
import FermataTensors
import Foundation

/// What a run tells whoever watches it.
public enum TrainingEvent: Sendable {
  case message(String)
  case step(RunProgress)
  case validated(step: Int, loss: Double, isBest: Bool)
  case saved(path: String)
}

/// A training run in a folder: `last` (a checkpoint to resume from) and `best` (the model of the lowest validation loss) are
/// model folders, `log.jsonl` has a line a step, `loss.svg` the curve.
public final class TrainingRun {
  public let folder: String
  public private(set) var settings: RunSettings
  public let data: RunData
  public private(set) var trainer: Trainer
  public private(set) var best: Double?
  public let estimate: MemoryEstimate
  private let validation: ValidationBatches
  private let lock: FolderLock
  private let log: JSONLines
  /// Seconds of training before this process took over.
  private var earlierSeconds = 0.0
  private let resumedAt: Int
  private var notes: [String] = []

  /// Begins a run, or with `configuration` nil resumes the one in the folder.
  public init(
    folder: String, begin: (settings: RunSettings, configuration: ModelConfiguration)?,
    registry: MixerRegistry = .standard
  ) throws {
    self.folder = folder
    let last = folder + "/last"
    if begin == nil && !FileManager.default.fileExists(atPath: AtomicFolder.current(last)) {
      throw TrainingError.nothingToResume(folder: folder)
    }
    try Folders.make(folder)
    lock = try FolderLock(folder)
    var record: Checkpoint.Record?
    var model: LanguageModel
    if let begin {
      if FileManager.default.fileExists(atPath: AtomicFolder.current(last)) {
        throw TrainingError.occupied(folder: folder)
      }
      settings = begin.settings
      try settings.options.validate()
      try Self.checkSize(begin.configuration)
      if let initial = settings.initialModel {
        model = try ModelFolder.load(initial, registry: registry)
        guard model.configuration == begin.configuration else {
          throw TrainingError.foreign(folder: initial, problem: "its configuration is not the one this run asks for")
        }
      } else {
        model = try LanguageModel(begin.configuration, registry: registry, seed: settings.options.seed)
      }
    } else {
      try AtomicFolder.recover(last)
      let found = try Checkpoint.record(in: last)
      record = found
      settings = found.settings
      model = try ModelFolder.load(last, registry: registry)
      if found.path != Processor.path || found.threads != Processor.threads {
        notes.append(
          "note: resumed on \(Processor.path) with \(Processor.threads) threads, checkpoint of \(found.path) with \(found.threads): "
            + "losses will agree to rounding, not to the bit")
      }
    }
    data = try RunData(settings)
    let options = settings.options
    let begin = Int32(model.configuration.beginToken)
    let batches = try PackedBatches(
      data.training.map { TokenDocument($0) }, batch: options.batch, length: options.length, beginToken: begin,
      mode: options.packing, seed: options.seed)
    validation = try ValidationBatches(
      data.validation.map { TokenDocument($0) }, batch: options.packing == .stream ? 1 : options.batch,
      length: options.length, beginToken: begin, mode: options.packing, limit: options.validationBatches)
    trainer = try Trainer(model, batches: batches, options: options)
    estimate = try MemoryEstimate(model, options: options)
    try estimate.check()
    if let record {
      try Checkpoint.restore(&trainer, record: record, from: last)
      (best, earlierSeconds) = (record.best, record.seconds)
    } else if let state = settings.initialState {
      try trainer.begin(from: StateFile.load(state, for: model, batch: options.batch))
    }
    resumedAt = trainer.step
    log = try JSONLines(folder + "/log.jsonl", resumingAfter: trainer.step)
  }

  /// Refuses a model that could not even be made, before it is made.
  private static func checkSize(_ configuration: ModelConfiguration) throws {
    let width = Double(configuration.width)
    let least =
      Double(configuration.layers) * 3 * width * Double(configuration.feedForwardWidth)
      + width * Double(configuration.vocabularySize)
    let available = MemoryEstimate.availableMemory()
    if least * 16 > Double(available) {
      throw TrainingError.memory(
        needed: Int(min(least * 16, 1e18)), available: available,
        detail: "weights, gradients and optimiser of at least \(Int(min(least / 1e6, 1e12))) M parameters")
    }
  }

  /// Trains to the last step. `shouldStop` is asked between steps: when it says yes, the run is saved and ends early.
  /// - Returns: whether all steps were done.
  @discardableResult
  public func run(shouldStop: () -> Bool = { false }, report: (TrainingEvent) throws -> Void) throws -> Bool {
    for note in notes { try report(.message(note)) }
    var clock = RunClock(earlier: earlierSeconds, firstStep: trainer.step)
    while trainer.step < trainer.options.steps {
      if shouldStop() {
        try save(clock, report)
        return false
      }
      let started = DispatchTime.now().uptimeNanoseconds
      let step: StepReport
      do {
        step = try trainer.advance()
      } catch let error as TrainingError {
        throw explained(error)
      }
      clock.add(step, nanoseconds: DispatchTime.now().uptimeNanoseconds - started)
      try log.append(LogLine(step, clock))
      try calibrate(&clock, report)
      try report(.step(clock.progress(step, total: trainer.options.steps)))
      try maintain(step.step, clock, report)
    }
    return true
  }

  /// Validation and checkpoints that are due after a step.
  private func maintain(_ step: Int, _ clock: RunClock, _ report: (TrainingEvent) throws -> Void) throws {
    let options = trainer.options
    let isLast = step >= options.steps
    if isLast || (options.validationInterval > 0 && step % options.validationInterval == 0) {
      let loss = try trainer.validationLoss(validation)
      try log.append(
        ValidationLine(step: step, validation_loss: loss, validation_bits_per_byte: loss / Foundation.log(2)))
      let isBest = loss < best ?? .infinity
      if isBest {
        best = loss
        try ModelFolder.save(trainer.model, to: folder + "/best")
      }
      try report(.validated(step: step, loss: loss, isBest: isBest))
    }
    if isLast || (options.checkpointInterval > 0 && step % options.checkpointInterval == 0) { try save(clock, report) }
  }

  private func save(_ clock: RunClock, _ report: (TrainingEvent) throws -> Void) throws {
    settings.options = trainer.options
    let record = Checkpoint.Record(
      settings: settings, step: trainer.step, cursor: trainer.batches.cursor, best: best, seconds: clock.seconds,
      path: Processor.path, threads: Processor.threads, hasCarriedState: trainer.carried != nil)
    try Checkpoint.write(trainer, record: record, to: folder + "/last")
    try LossCurve.write(log: folder + "/log.jsonl", to: folder + "/loss.svg")
    try report(.saved(path: folder + "/last"))
  }

  /// With a time instead of a number of steps, the number is set once, from the speed of the first steps.
  private func calibrate(_ clock: inout RunClock, _ report: (TrainingEvent) throws -> Void) throws {
    guard let wanted = settings.seconds, !clock.isCalibrated, resumedAt == 0 else { return }
    guard trainer.step >= 8 || clock.seconds > wanted / 10 else { return }
    clock.isCalibrated = true
    // The first step pays for what is made once.
    let each = clock.secondsPerStep
    trainer.options.steps = max(trainer.step + 1, Int(wanted / each))
    trainer.options.warmup = min(trainer.options.warmup, max(1, trainer.options.steps / 10))
    try report(.message("\(trainer.options.steps) steps will take about \(Human.duration(seconds: wanted))"))
  }

  private func explained(_ error: TrainingError) -> TrainingError {
    guard case .notFinite(let what, let step, _) = error else { return error }
    let hasCheckpoint = FileManager.default.fileExists(atPath: folder + "/last")
    return .notFinite(
      what: what, step: step,
      kept: hasCheckpoint ? "the last good checkpoint is \(folder)/last" : "there was no checkpoint yet")
  }
}

/// Time and speed of a run.
struct RunClock {
  private let earlier: Double
  private let firstStep: Int
  private var nanoseconds: UInt64 = 0
  private var firstNanoseconds: UInt64 = 0
  private var steps = 0
  private var targets = 0
  var isCalibrated = false

  init(earlier: Double, firstStep: Int) {
    self.earlier = earlier
    self.firstStep = firstStep
  }

  mutating func add(_ step: StepReport, nanoseconds: UInt64) {
    if steps == 0 { firstNanoseconds = nanoseconds }
    steps += 1
    targets += step.targets
    self.nanoseconds += nanoseconds
  }

  /// Seconds of steps, those before a resumption included.
  var seconds: Double { earlier + Double(nanoseconds) / 1e9 }
  var secondsPerStep: Double {
    steps > 1 ? Double(nanoseconds - firstNanoseconds) / 1e9 / Double(steps - 1) : Double(nanoseconds) / 1e9
  }
  var tokensPerSecond: Double { Double(targets) / Double(max(steps, 1)) / max(secondsPerStep, 1e-9) }

  func progress(_ step: StepReport, total: Int) -> RunProgress {
    RunProgress(
      step: step.step, total: total, loss: step.loss, bitsPerByte: step.bitsPerByte, tokensPerSecond: tokensPerSecond,
      secondsLeft: secondsPerStep * Double(max(0, total - step.step)), peakMemory: Memory.usage.peak)
  }
}

/// A line of log.jsonl.
private struct LogLine: Encodable {
  var step: Int
  var loss: Double
  var bits_per_byte: Double
  var learning_rate: Double
  var gradient_norm: Double
  var tokens: Int
  var seconds: Double
  var tokens_per_second: Double
  var peak_bytes: Int

  init(_ report: StepReport, _ clock: RunClock) {
    step = report.step
    loss = report.loss
    bits_per_byte = report.bitsPerByte
    learning_rate = report.learningRate
    gradient_norm = report.gradientNorm
    tokens = report.targets
    seconds = clock.seconds
    tokens_per_second = clock.tokensPerSecond
    peak_bytes = Memory.usage.peak
  }
}

private struct ValidationLine: Encodable {
  var step: Int
  var validation_loss: Double
  var validation_bits_per_byte: Double
}
