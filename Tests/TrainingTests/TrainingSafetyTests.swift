import FermataFiles
import FermataLayers
import FermataMixers
import FermataModels
import FermataTasks
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataTraining

/// Nothing of the user's is lost, and nothing that a folder holds is believed before it is checked.
@Suite(.serialized) struct TrainingSafetyTests {
  private func settings(_ folder: Fixture.Folder, _ change: (inout TrainingOptions) -> Void = { _ in }) throws
    -> RunSettings
  {
    let data = folder.path + "/text"
    try Fixture.text(12_000).write(to: URL(fileURLWithPath: data))
    return RunSettings(data: data, options: Fixture.options(change))
  }

  private func write(_ text: String, _ path: String) throws {
    let parent = URL(fileURLWithPath: path).deletingLastPathComponent()
    try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
  }

  private func read(_ path: String) throws -> String {
    String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
  }

  @Test(arguments: ["best/photo.txt", "last/notes.txt", "log.jsonl", "loss.svg"]) func aNewRunLeavesOthersFilesAlone(
    _ name: String
  )
    throws
  {
    let folder = try Fixture.Folder()
    let path = folder.path + "/run"
    try write("mine\n", path + "/" + name)
    let settings = try settings(folder)
    let error = #expect(throws: TrainingError.self) {
      try TrainingRun(folder: path, begin: (settings, Fixture.configuration()))
    }
    guard case .occupied = error else { Issue.record("\(String(describing: error))"); return }
    #expect(try read(path + "/" + name) == "mine\n")
  }

  @Test func theLogOfARunWithoutACheckpointIsBegunAnew() throws {
    let folder = try Fixture.Folder()
    let path = folder.path + "/run"
    try write("{\"loss\":1,\"step\":1}\n", path + "/log.jsonl")
    _ = try TrainingRun(folder: path, begin: (settings(folder), Fixture.configuration()))
    #expect(try read(path + "/log.jsonl") == "")
  }

  @Test func theLastGoodCheckpointIsGood() throws {
    let folder = try Fixture.Folder()
    let path = folder.path + "/run"
    let settings = try settings(folder) {
      $0.learningRate = 1e30; $0.clip = 0; $0.warmup = 0; $0.checkpointInterval = 1; $0.validationInterval = 0
    }
    do {
      let run = try TrainingRun(folder: path, begin: (settings, Fixture.configuration()))
      // Something good to keep.
      try run.run(shouldStop: { true }) { _ in }
      let error = #expect(throws: TrainingError.self) { try run.run { _ in } }
      #expect(error?.description.contains("the last good checkpoint is \(path)/last") == true)
    }
    let kept = try TrainingRun(folder: path, begin: nil)
    #expect(kept.trainer.step == 0)
    for (name, value) in try kept.trainer.model.parameters() {
      #expect(try value.floats().allSatisfy { $0.isFinite && abs($0) < 100 }, "\(name)")
    }
  }

  @Test func withoutACheckpointTheErrorSaysSo() throws {
    let folder = try Fixture.Folder()
    let settings = try settings(folder) {
      $0.learningRate = 1e30; $0.clip = 0; $0.warmup = 0; $0.checkpointInterval = 0; $0.validationInterval = 1
    }
    let run = try TrainingRun(folder: folder.path + "/run", begin: (settings, Fixture.configuration()))
    let error = #expect(throws: TrainingError.self) { try run.run { _ in } }
    #expect(error?.description.contains("there was no checkpoint yet") == true)
  }

  @Test func aTrainingFileIsCheckedBeforeItIsUsed() throws {
    let folder = try Fixture.Folder()
    let path = folder.path + "/run"
    try TrainingRun(folder: path, begin: (settings(folder) { $0.steps = 2 }, Fixture.configuration())).run { _ in }
    let file = path + "/last/training.json"
    let good = try #require(try StrictJSON.read(file).objectValue)
    func changed(_ keys: [String], _ value: JSONValue?, in object: JSONValue) -> JSONValue {
      guard let key = keys.first, var members = object.objectValue else { return value ?? .null }
      if keys.count == 1 {
        members[key] = value
      } else {
        members[key] = changed(Array(keys.dropFirst()), value, in: members[key] ?? .null)
      }
      return .object(members)
    }
    let bad: [([String], JSONValue?)] = [
      (["settings", "options", "length"], .int(.max)), (["settings", "options", "warmup"], .int(.max)),
      (["settings", "options", "batch"], .int(-1)), (["settings", "seconds"], .double(-1e300)),
      (["settings", "seconds"], .double(1e300)), (["step"], .int(.max)), (["step"], .string("2")),
      (["cursor"], nil), (["unheard"], .int(1)), (["settings", "options", "seed"], .double(0.5)),
    ]
    for (keys, value) in bad {
      try StrictJSON.write(changed(keys, value, in: .object(good)), to: file)
      let error = #expect(throws: TrainingError.self, "\(keys)") { try TrainingRun(folder: path, begin: nil) }
      #expect(error?.description.contains("DecodingError") == false && error?.description.contains("Context") == false)
    }
    for (key, value) in [("epoch", Int.max), ("epoch", -1), ("offset", .max), ("offset", -1)] {
      try StrictJSON.write(changed(["cursor", key], .int(value), in: .object(good)), to: file)
      #expect(throws: DataError.self, "\(key)") { try TrainingRun(folder: path, begin: nil) }
    }
    // What an earlier version did not know keeps its default.
    var older = changed(["settings", "options", "dropout"], nil, in: .object(good))
    older = changed(["settings", "removesNearDuplicates"], nil, in: older)
    try StrictJSON.write(older, to: file)
    #expect(try TrainingRun(folder: path, begin: nil).trainer.step == 2)
  }

  @Test func settingsOfEverySizeComeBack() throws {
    var settings = RunSettings(data: "x", options: TrainingOptions())
    settings.options.seed = .max
    settings.options.dropout = 0.3
    settings.seconds = 3
    let data = try JSONEncoder().encode(settings)
    #expect(try JSONDecoder().decode(RunSettings.self, from: data) == settings)
    #expect(try JSONDecoder().decode(TrainingOptions.self, from: Data("{}".utf8)) == TrainingOptions())
  }

  @Test func aTimeOutlivesAStop() throws {
    let folder = try Fixture.Folder()
    let path = folder.path + "/run"
    var settings = try settings(folder) {
      $0.steps = 1_000_000; $0.checkpointInterval = 0; $0.validationInterval = 0
    }
    settings.seconds = 1.5
    do {
      let run = try TrainingRun(folder: path, begin: (settings, Fixture.configuration()))
      var steps = 0
      try run.run(shouldStop: { steps == 1 }) { if case .step = $0 { steps += 1 } }
    }
    let resumed = try TrainingRun(folder: path, begin: nil)
    #expect(resumed.settings.seconds == 1.5 || resumed.settings.options.steps < 1_000_000)
    #expect(try resumed.run { _ in })
    #expect(resumed.trainer.options.steps < 1_000_000 && resumed.settings.seconds == nil)
    #expect(resumed.trainer.step == resumed.trainer.options.steps)
    settings.seconds = 1e300
    #expect(throws: TrainingError.self) {
      try TrainingRun(folder: folder.path + "/other", begin: (settings, Fixture.configuration()))
    }
  }

  @Test func dataIsFoundFromAnyFolder() {
    let here = FileManager.default.currentDirectoryPath
    func data(_ path: String) -> String { RunSettings(data: path, options: TrainingOptions()).withAbsoluteData().data }
    #expect(data("a/b") == here + "/a/b" && data("/a/b") == "/a/b" && data("-") == "-")
  }

  @Test func manyPiecesCountInTheEstimate() throws {
    let model = try LanguageModel(Fixture.configuration(), seed: 3)
    func estimate(_ pieces: Int) throws -> Int {
      let options = Fixture.options {
        $0.packing = .stream; $0.streamGradient = .exact; $0.piecesPerContext = pieces; $0.length = 16
      }
      try options.validate()
      return try MemoryEstimate(model, options: options).activations
    }
    let (few, many) = (try estimate(1), try estimate(1 << 24))
    #expect(many - few >= (1 << 24) * 16 * 2 * 9 - (1 << 20))
  }

  /// Short rows, rows of the estimate's own length and longer ones. The estimate adds up maxima that need not fall together;
  /// blocks come in steps of a quarter, and in a model this small states cost something too.
  @Test(arguments: [(8, 16), (3, 64), (4, 160)]) func theEstimateIsThePeak(_ batch: Int, _ length: Int) throws {
    let options = Fixture.options {
      $0.batch = batch; $0.length = length; $0.computeType = .bfloat16
    }
    let model = try LanguageModel(Fixture.configuration(), seed: 3)
    let expected = try MemoryEstimate(model, options: options).activations
    var running = model
    running.computeType = .bfloat16
    try model.dropPackedWeights()
    let tokens = try Tensor.zeros([batch, length], .int32)
    let piece = TokenPiece(tokens: tokens, targets: tokens, layout: Layout(batch: batch, length: length))
    let measured = try Memory.measure {
      try PiecewiseGradient.truncated(running, piece, state: running.initialState(batch: batch), scale: 1)
    }.peak
    let ratio = try Double(expected + 4 * model.parameterCount()) / Double(measured)
    #expect(ratio > 0.85 && ratio < 2.2, "estimated over measured: \(ratio)")
  }

  @Test func theCacheIsWithinTheLimit() throws {
    let before = Memory.limit
    defer { Memory.limit = before }
    let holds = try holdsOnce(attempts: 4) {
      Memory.limit = before
      // A full cache keeps nothing more.
      Memory.releaseCache()
      do { _ = try Tensor(uninitialized: [256 << 20]) }
      let kept = Memory.usage.cached
      // Other tests have room below the limit.
      Memory.limit = Memory.usage.live + (1600 << 20)
      // Another size, so that the block kept does not serve: 1,024 MiB kept and 768 more would pass the limit.
      let more = try Tensor(uninitialized: [192 << 20])
      return kept >= 1 << 30 && Memory.usage.cached < 1 << 29 && more.count == 192 << 20
    }
    #expect(holds)
  }

  @Test func theCurveKeepsFewPoints() throws {
    let folder = try Fixture.Folder()
    var curve = LossCurve(log: folder.path + "/none")
    for step in 1...100_000 { curve.addTraining(step: step, bits: step == 50 ? .nan : Double(step)) }
    #expect(curve.training.points.count <= LossCurve.Line.limit && curve.training.points.count >= 1000)
    #expect(curve.training.points.allSatisfy { abs($0.x - $0.y) < 1e-6 })
    let lines = ["{\"step\":1,\"bits_per_byte\":2}", "nonsense", "{\"step\":1,\"validation_bits_per_byte\":3}", ""]
    try write(lines.joined(separator: "\n"), folder.path + "/log.jsonl")
    let found = LossCurve(log: folder.path + "/log.jsonl")
    #expect(found.training.points.map(\.y) == [2] && found.validation.points.map(\.y) == [3])
  }
}
