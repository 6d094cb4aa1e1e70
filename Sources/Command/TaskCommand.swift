import ArgumentParser
import Fermata
import FermataFiles
import Foundation

/// `fermata task`: what a mixer can learn, on sequences made for one question each.
struct TaskCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "task", abstract: "Train small models on synthetic tasks and grade what they learnt.",
    discussion: """
      Examples:
        fermata task                                              the tasks there are
        fermata task parity --mixer lstm --layers 1 --eval-length 4x
        fermata task selective_copying --mixer '{"type": "gated_linear_attention", "num_heads": 2}' --seeds 1,2,3
        fermata task associative_recall --items 16 --mixer lstm --log recall.jsonl

      A model of token ids is trained from each seed and graded on fresh sequences: the part of the answers that are right. \
      Training ends early at --target. The accuracy shown at the end is of other sequences than those graded on the way. --log \
      appends a line a grading.
      """)

  @Argument(help: "A task; without one they are listed.")
  var task: String?

  @Option(
    help: ArgumentHelp(
      "Mixer of the layers: a name, or a JSON object, or a JSON list to repeat over the layers.", valueName: "name|json"
    ))
  var mixer: String?

  @Option(parsing: .unconditional, help: "Width of the residual stream.") var width = 64
  @Option(parsing: .unconditional, help: "Number of layers.") var layers = 2
  @Option(parsing: .unconditional, help: "Tokens of a training sequence (default: the task's).") var length: Int?
  @Option(parsing: .unconditional, help: "Kinds of content tokens (default: the task's).") var vocabulary: Int?
  @Option(parsing: .unconditional, help: "Tokens to copy, or pairs to recall (default: the task's).") var items: Int?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Tokens of graded sequences, or so many times those of training.", valueName: "n|nx"))
  var evalLength: String?
  @Option(parsing: .unconditional, help: "Most optimiser steps (default 2000).") var steps: Int?
  @Option(name: .shortAndLong, parsing: .unconditional, help: "Sequences a step (default 32).") var batch: Int?
  @Option(
    name: [.customLong("learning-rate"), .customLong("lr")], parsing: .unconditional,
    help: "Peak learning rate (default 0.003).")
  var learningRate: Double?
  @Option(help: "Schedule of the learning rate: \(Schedules.names.joined(separator: ", ")) (default cosine).")
  var schedule: String?
  @Option(parsing: .unconditional, help: "AdamW's weight decay (default 0.01).") var weightDecay: Double?
  @Option(help: "Seeds, one model each.") var seeds = "1"
  @Option(parsing: .unconditional, help: "Accuracy at which training ends early (default 0.995).") var target: Double?
  @Option(parsing: .unconditional, help: "Steps between gradings (default 100).") var evalInterval: Int?
  @Option(help: ArgumentHelp("A file for one JSON line a grading.", valueName: "file")) var log: String?
  @OptionGroup(title: "Machine") var machine: MachineOptions

  func run() throws {
    guard let name = task, name != "list" else { return try list() }
    guard let mixer else { throw ValidationError("give --mixer NAME or --mixer JSON (`fermata mixers` lists them)") }
    try machine.apply()
    let task = try SyntheticTasks.named(name)
      .init(SyntheticTaskSizes(length: length, vocabulary: vocabulary, items: items))
    let mixers = try Self.mixers(mixer)
    var options = try options(for: task)
    let seeds = try seedList()
    let log = try log.map { try JSONLines($0) }
    let stop = InterruptFlag.install()
    let output = StandardOutput()
    for seed in seeds {
      options.seed = seed
      var trainer = try TaskTrainer(task, width: width, layers: layers, mixers: mixers, options: options)
      let start = ContinuousClock.now
      let status = StatusLine()
      let finish = try train(&trainer, stop, status, log: log, name: name)
      status.clear()
      let seconds = start.duration(to: .now).seconds
      try output.write(
        "seed \(seed): accuracy \(Human.fixed(finish, 4)) at \(options.evaluationLength ?? task.length) tokens after "
          + "\(trainer.step) steps, \(Human.count(try trainer.model.parameterCount())) parameters, "
          + "\(Human.fixed(seconds, 1)) s\n")
      try output.flush()
    }
  }

  /// Trains to the target or the last step, and grades at the end.
  private func train(
    _ trainer: inout TaskTrainer, _ stop: InterruptFlag, _ status: StatusLine, log: JSONLines?, name: String
  ) throws -> Double {
    let options = trainer.options
    func record(_ accuracy: Double, loss: Double, isFinal: Bool) throws {
      try log?.append(
        Grading(
          task: name, mixer: mixer ?? "", width: width, layers: layers, seed: options.seed, step: trainer.step,
          loss: loss,
          length: options.evaluationLength, accuracy: accuracy, final: isFinal))
    }
    var loss = 0.0
    while trainer.step < options.steps {
      if stop.isSet {
        status.clear()
        throw Interrupted()
      }
      loss = try trainer.advance()
      status.update { "seed \(options.seed), step \(trainer.step) of \(options.steps), loss \(Human.fixed(loss, 4))" }
      guard trainer.step % options.evaluationInterval == 0 else { continue }
      let accuracy = try trainer.accuracy()
      try record(accuracy, loss: loss, isFinal: false)
      if accuracy >= options.target { break }
    }
    let accuracy = try trainer.accuracy(isFinal: true)
    try record(accuracy, loss: loss, isFinal: true)
    return accuracy
  }

  private func list() throws {
    let output = StandardOutput()
    let width = SyntheticTasks.all.map { $0.name.count }.max() ?? 0
    for task in SyntheticTasks.all {
      try output.write("\(task.name.padded(width))  \(task.summary) (\(task.source))\n")
    }
    try output.flush()
  }

  /// A name, an object or a list as the mixers of a configuration.
  static func mixers(_ text: String) throws -> [JSONValue] {
    guard text.hasPrefix("{") || text.hasPrefix("[") else { return [["type": .string(text)]] }
    let value = try StrictJSON.parse(Array(text.utf8), place: "--mixer")
    return value.arrayValue ?? [value]
  }

  private func options(for task: any SyntheticTask) throws -> TaskOptions {
    var options = TaskOptions()
    options.steps = steps ?? options.steps
    options.batch = batch ?? options.batch
    options.learningRate = learningRate ?? options.learningRate
    options.schedule = schedule ?? options.schedule
    options.weightDecay = weightDecay ?? options.weightDecay
    options.target = target ?? options.target
    options.evaluationInterval = evalInterval ?? options.evaluationInterval
    options.evaluationLength = try evaluationLength(for: task)
    try options.validate()
    return options
  }

  private func evaluationLength(for task: any SyntheticTask) throws -> Int? {
    guard let evalLength else { return nil }
    let isFactor = evalLength.hasSuffix("x")
    guard let number = Int(isFactor ? String(evalLength.dropLast()) : evalLength), number > 0, number <= 1 << 20 else {
      throw ValidationError(
        "--eval-length must be a number of tokens (160) or times those of training (4x), got '\(evalLength)'")
    }
    return isFactor ? task.length * number : number
  }

  private func seedList() throws -> [UInt64] {
    let parts = seeds.split(separator: ",", omittingEmptySubsequences: false)
    let numbers = parts.compactMap { UInt64($0.trimmingCharacters(in: .whitespaces)) }
    guard numbers.count == parts.count else {
      throw ValidationError("--seeds must be whole numbers with commas between them, got '\(seeds)'")
    }
    return numbers
  }
}

/// A line of the log.
private struct Grading: Encodable {
  var task: String
  var mixer: String
  var width: Int
  var layers: Int
  var seed: UInt64
  var step: Int
  var loss: Double
  var length: Int?
  var accuracy: Double
  var final: Bool
}
