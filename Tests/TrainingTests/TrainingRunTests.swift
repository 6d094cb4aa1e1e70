import FermataFiles
import FermataModels
import FermataTasks
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataTraining

/// Runs in folders: killed at any step and resumed, the losses that follow are the same bits.
@Suite(.serialized) struct TrainingRunTests {
  private struct Line: Decodable, Equatable {
    var step: Int
    var loss: Double?
    var gradient_norm: Double?
    var validation_loss: Double?
  }

  private func lines(_ folder: String) throws -> [Line] {
    let data = try Data(contentsOf: URL(fileURLWithPath: folder + "/log.jsonl"))
    return try data.split(separator: 10).map { try JSONDecoder().decode(Line.self, from: $0) }
  }

  private func settings(_ folder: Fixture.Folder, _ options: TrainingOptions) throws -> RunSettings {
    let data = folder.path + "/text"
    try Fixture.text(12_000).write(to: URL(fileURLWithPath: data))
    return RunSettings(data: data, options: options)
  }

  static let kinds: [(String, @Sendable (inout TrainingOptions) -> Void)] = [
    ("rows", { _ in }),
    (
      "rows in bf16, accumulated",
      {
        $0.computeType = .bfloat16; $0.accumulation = 2
      }
    ),
    ("stream", { $0.packing = .stream }),
    (
      "rows with dropout",
      {
        $0.dropout = 0.2; $0.accumulation = 2
      }
    ),
    (
      "stream, exact, with dropout",
      {
        $0.packing = .stream; $0.streamGradient = .exact; $0.piecesPerContext = 3; $0.length = 16; $0.dropout = 0.1
      }
    ),
    (
      "stream, exact",
      {
        $0.packing = .stream; $0.streamGradient = .exact; $0.piecesPerContext = 3; $0.length = 16
      }
    ),
  ]

  @Test(arguments: kinds.indices) func resumesBitForBit(_ kind: Int) throws {
    try withSteadyProcess {
      let options = Fixture.options(Self.kinds[kind].1)
      let folder = try Fixture.Folder()
      let settings = try settings(folder, options)
      let configuration = try Fixture.configuration()
      let (straight, broken) = (folder.path + "/straight", folder.path + "/broken")
      try TrainingRun(folder: straight, begin: (settings, configuration)).run { _ in }
      // Dropped in the middle of an interval, twice: what came after the checkpoint is done again.
      for stop in [6, 9] {
        struct Killed: Error {}
        let run = try TrainingRun(folder: broken, begin: stop == 6 ? (settings, configuration) : nil)
        #expect(throws: Killed.self) {
          try run.run { event in
            if case .step(let progress) = event, progress.step == stop { throw Killed() }
          }
        }
      }
      try TrainingRun(folder: broken, begin: nil).run { _ in }
      #expect(try lines(straight) == lines(broken), "\(Self.kinds[kind].0)")
      let weights = try [straight, broken].map {
        try Data(contentsOf: URL(fileURLWithPath: $0 + "/last/model.safetensors"))
      }
      #expect(weights[0] == weights[1])
      #expect(FileManager.default.fileExists(atPath: straight + "/loss.svg"))
    }
  }

  @Test func stopsCleanlyWhenAsked() throws {
    let folder = try Fixture.Folder()
    let settings = try settings(folder, Fixture.options())
    let run = try TrainingRun(folder: folder.path + "/run", begin: (settings, Fixture.configuration()))
    var steps = 0
    let finished = try run.run(shouldStop: { steps == 5 }) { if case .step = $0 { steps += 1 } }
    #expect(!finished)
    #expect(
      try TrainingRun(folder: folder.path + "/elsewhere", begin: (settings, Fixture.configuration())).trainer.step == 0)
    #expect(throws: FileError.self) { try TrainingRun(folder: folder.path + "/run", begin: nil) }
  }

  @Test func refusesWhatWouldLoseSomething() throws {
    let folder = try Fixture.Folder()
    let settings = try settings(folder, Fixture.options { $0.steps = 2 })
    let path = folder.path + "/run"
    #expect(throws: TrainingError.self) { try TrainingRun(folder: path, begin: nil) }
    try TrainingRun(folder: path, begin: (settings, Fixture.configuration())).run { _ in }
    // A folder with a run, damaged checkpoints, changed data.
    #expect(throws: TrainingError.self) { try TrainingRun(folder: path, begin: (settings, Fixture.configuration())) }
    let weights = path + "/last/model.safetensors"
    let good = try Data(contentsOf: URL(fileURLWithPath: weights))
    try good.dropLast(7).write(to: URL(fileURLWithPath: weights))
    #expect(throws: FileError.self) { try TrainingRun(folder: path, begin: nil) }
    try good.write(to: URL(fileURLWithPath: weights))
    try Data("{".utf8).write(to: URL(fileURLWithPath: path + "/last/training.json"))
    #expect(throws: TrainingError.self) { try TrainingRun(folder: path, begin: nil) }
  }

  @Test func memoryThatIsNotThereIsRefusedBefore() throws {
    let folder = try Fixture.Folder()
    var settings = try settings(folder, Fixture.options())
    let huge = try ModelConfiguration(width: 16_384, layers: 500, mixers: [["type": "lstm"]])
    #expect(throws: TrainingError.self) { try TrainingRun(folder: folder.path + "/a", begin: (settings, huge)) }
    try Fixture.text(900_000).write(to: URL(fileURLWithPath: settings.data))
    settings.options.batch = 4_000_000
    settings.options.length = 128
    #expect(throws: TrainingError.self) {
      try TrainingRun(folder: folder.path + "/b", begin: (settings, Fixture.configuration()))
    }
  }
}
