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
  private var curve: LossCurve
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
      try Self.requireFree(folder)
      settings = begin.settings.withAbsoluteData()
      try settings.validate()
      if settings.readsStandardInput {
        notes.append("note: to resume, --resume reads standard input again; give it the same text")
      }
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
    Self.limitMemory(to: estimate.available)
    if let record {
      try Checkpoint.restore(&trainer, record: record, from: last)
      (best, earlierSeconds) = (record.best, record.seconds)
    } else if let state = settings.initialState {
      try trainer.begin(from: StateFile.load(state, for: model, batch: options.batch))
    }
    log = try JSONLines(folder + "/log.jsonl", resumingAfter: trainer.step)
    curve = LossCurve(log: log.path)
  }

  /// Throws when the folder holds what a new run would replace: a run, or files of the user's under the names of one.
  private static func requireFree(_ folder: String) throws {
    let names = ["last", "best", "loss.svg"]
    for name in names where FileManager.default.fileExists(atPath: AtomicFolder.current(folder + "/" + name)) {
      throw TrainingError.occupied(folder: folder, name: name)
    }
    // The log of a run that ended before its first checkpoint is begun anew; anything else under its name is kept.
    struct Numbered: Decodable { var step: Int }
    guard let file = FileHandle(forReadingAtPath: folder + "/log.jsonl") else { return }
    defer { try? file.close() }
    guard let beginning = try file.read(upToCount: 1 << 16), !beginning.isEmpty else { return }
    let line = beginning.prefix { $0 != UInt8(ascii: "\n") }
    if (try? JSONDecoder().decode(Numbered.self, from: line)) == nil {
      throw TrainingError.occupied(folder: folder, name: "log.jsonl")
    }
  }

  /// Where nobody has set a limit, what tensors hold already and what the system can give is one: then a run that needs
  /// more ends in an error rather than in the system's killing the process.
  private static func limitMemory(to available: Int) {
    guard Memory.limit == .max else { return }
    let usage = Memory.usage
    let (sum, overflow) = available.addingReportingOverflow(usage.live + usage.cached)
    if !overflow { Memory.limit = sum }
  }

  /// Refuses a model that could not even be made, before it is made.
  private static func checkSize(_ configuration: ModelConfiguration) throws {
    let width = Double(configuration.width)
    let least =
      Double(configuration.layers) * width * (3 * Double(configuration.feedForwardWidth) + width)
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
        try explaining { try save(clock, report) }
        return false
      }
      let started = DispatchTime.now().uptimeNanoseconds
      let step = try explaining { try trainer.advance() }
      clock.add(step, nanoseconds: DispatchTime.now().uptimeNanoseconds - started)
      try log.append(LogLine(step, clock))
      curve.addTraining(step: step.step, bits: step.bitsPerByte)
      try calibrate(clock, report)
      try report(.step(clock.progress(step, total: trainer.options.steps)))
      try explaining { try maintain(step.step, clock, report) }
    }
    return true
  }

  /// Validation and checkpoints that are due after a step.
  private func maintain(_ step: Int, _ clock: RunClock, _ report: (TrainingEvent) throws -> Void) throws {
    let options = trainer.options
    let isLast = step >= options.steps
    if isLast || (options.validationInterval > 0 && step % options.validationInterval == 0) {
      let loss = try trainer.validationLoss(validation)
      guard loss.isFinite else { throw TrainingError.notFinite(what: "validation loss", step: step, kept: "") }
      try log.append(
        ValidationLine(step: step, validation_loss: loss, validation_bits_per_byte: loss / Foundation.log(2)))
      curve.addValidation(step: step, bits: loss / Foundation.log(2))
      let isBest = loss < best ?? .infinity
      if isBest {
        best = loss
        try ModelFolder.save(trainer.model, to: folder + "/best")
      }
      try report(.validated(step: step, loss: loss, isBest: isBest))
    }
    if isLast || (options.checkpointInterval > 0 && step % options.checkpointInterval == 0) {
      try save(clock, report)
    }
  }

  /// Replaces `last`, once the weights are known to be good.
  private func save(_ clock: RunClock, _ report: (TrainingEvent) throws -> Void) throws {
    try trainer.prove(on: validation.count == 0 ? nil : validation[0])
    settings.options = trainer.options
    let record = Checkpoint.Record(
      settings: settings, step: trainer.step, cursor: trainer.batches.cursor, best: best, seconds: clock.seconds,
      path: Processor.path, threads: Processor.threads, hasCarriedState: trainer.carried != nil)
    try Checkpoint.write(trainer, record: record, to: folder + "/last")
    try curve.write(to: folder + "/loss.svg")
    try report(.saved(path: folder + "/last"))
  }

  /// With a time instead of a number of steps, the number is set once, from the speed of the first steps.
  private func calibrate(_ clock: RunClock, _ report: (TrainingEvent) throws -> Void) throws {
    guard let wanted = settings.seconds, clock.steps >= 8 || clock.seconds > wanted / 10 else { return }
    // Done once: a run stopped before this does it when it is resumed, one stopped later keeps its number of steps.
    settings.seconds = nil
    let each = max(clock.secondsPerStep, 1e-9)
    let left = min(max(wanted - clock.seconds, 0) / each, 1e12)
    trainer.options.steps = min(trainer.step + max(1, Int(left)), 1 << 40)
    trainer.options.warmup = min(trainer.options.warmup, max(1, trainer.options.steps / 10))
    try report(.message("\(trainer.options.steps) steps will take about \(Human.duration(seconds: wanted))"))
  }

  /// Adds to the error of a run that went wrong what is left of it.
  private func explaining<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch TrainingError.notFinite(let what, let step, _) {
      let hasCheckpoint = FileManager.default.fileExists(atPath: folder + "/last")
      throw TrainingError.notFinite(
        what: what, step: step,
        kept: hasCheckpoint ? "the last good checkpoint is \(folder)/last" : "there was no checkpoint yet")
    }
  }
}
