import ArgumentParser
import Fermata
import Foundation

/// `fermata train`: trains a language model on bytes.
struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Train a byte-level language model on a file, a folder or standard input.",
    discussion: """
      The output folder gets two model folders, `best` (lowest validation loss) and `last` (with everything needed to resume), \
      `log.jsonl` with a line a step, and `loss.svg`.

      Examples:
        fermata train book.txt -o runs/book
        fermata train corpus/ -o runs/big --width 384 --layers 9 --time 30m
        fermata train log.txt -o runs/log --stream --gradient exact --pieces 16
        fermata train -o runs/book --resume
        fermata train more.txt -o runs/more --from runs/book
        cat *.txt | fermata train - -o runs/pipe --mixers lstm --dtype bf16
      """)

  @Argument(help: "A file, a folder, or - for standard input. Not with --resume.")
  var data: String?

  @Option(name: [.short, .customLong("output")], help: "Folder of the run.")
  var output: String

  @Flag(help: "Go on with the run in the output folder, exactly where its last checkpoint stands.")
  var resume = false

  @OptionGroup(title: "Model") var model: ModelOptions
  @OptionGroup(title: "Data") var dataOptions: DataOptions
  @OptionGroup(title: "Training") var training: OptimizationOptions
  @OptionGroup(title: "Machine") var machine: MachineOptions

  func run() throws {
    try machine.apply()
    let run: TrainingRun
    if resume {
      if data != nil || training.isGiven || dataOptions.isGiven || model.isGiven {
        throw ValidationError(
          "--resume takes its data and settings from the run in \(output); give only --output with it")
      }
      run = try TrainingRun(folder: output, begin: nil)
      if run.trainer.step >= run.trainer.options.steps {
        StandardError.write(
          "fermata: \(output) has done all its \(run.trainer.step) steps; to train its model further: "
            + "fermata train DATA --from \(output) -o NEW\n")
        return
      }
    } else {
      guard let data else { throw ValidationError("give a file, a folder or - to train on, or --resume") }
      if dataOptions.saveSplit && FileManager.default.fileExists(atPath: output + "/data") {
        throw TrainingError.occupied(folder: output, name: "data")
      }
      var settings = RunSettings(data: data, options: try training.options())
      dataOptions.apply(to: &settings)
      settings.seconds = try training.time.map { try TimeSpan.seconds($0) }
      if settings.seconds != nil { settings.options.steps = 1_000_000 }
      settings.initialModel = try model.initial.map { try ModelFolder.resolve($0) }
      settings.initialState = training.loadState
      run = try TrainingRun(folder: output, begin: (settings, try model.configuration()))
    }
    if dataOptions.saveSplit { try run.data.save(to: output + "/data") }
    let stop = InterruptFlag.install()
    let reporter = TrainingReporter(run)
    reporter.begin()
    let finished = try run.run(shouldStop: { stop.isSet }, report: reporter.report)
    reporter.end(finished: finished, output: output)
    if !finished { throw ExitCode(stop.exitCode) }
  }
}

/// Prints what a run says.
final class TrainingReporter {
  private let run: TrainingRun
  private let line = ProgressLine(interval: 5)

  init(_ run: TrainingRun) { self.run = run }

  func begin() {
    let options = run.trainer.options
    let count = (try? run.trainer.model.parameterCount()) ?? 0
    line.message(
      "model: \(Human.count(count)) parameters, \(run.trainer.model.blocks.count) layers; "
        + "\(options.computeType.rawValue.lowercased()) on \(Processor.path), \(Processor.threads) threads")
    line.message(
      "data: \(Human.bytes(RunData.size(run.data.training))) in \(run.data.training.count) documents to train on, "
        + "\(Human.bytes(RunData.size(run.data.validation))) in \(run.data.validation.count) held out")
    for removal in run.data.removed {
      line.message("left out \(removal.name): \(Int(removal.containment * 100))% of it stands in \(removal.kept)")
    }
    for skipped in run.data.skipped { line.message("skipped \(skipped.path): \(skipped.reason)") }
    line.message(
      "memory: about \(Human.bytes(run.estimate.total)) of \(Human.bytes(run.estimate.available)) available")
    if run.trainer.step > 0 { line.message("resuming after step \(run.trainer.step)") }
  }

  func report(_ event: TrainingEvent) throws {
    switch event {
    case .message(let text): line.message(text)
    case .step(let progress): line.update(progress)
    case .validated(let step, let loss, let isBest):
      let bits = loss / log(2)
      line.message(
        "step \(step): validation loss \(Human.fixed(loss, 4)), \(Human.fixed(bits, 4)) bits/byte\(isBest ? " (best)" : "")"
      )
    case .saved: break
    }
  }

  func end(finished: Bool, output: String) {
    line.finish()
    if finished {
      let best = run.best.map { ", best validation \(Human.fixed($0 / log(2), 4)) bits/byte" } ?? ""
      line.message("done: \(run.trainer.step) steps\(best); model in \(output)/best, curve in \(output)/loss.svg")
    } else {
      line.message(
        "stopped after step \(run.trainer.step) and saved; go on with: fermata train --resume -o \(output)"
          + (run.settings.data == "-" ? " < the same text" : ""))
    }
  }
}
