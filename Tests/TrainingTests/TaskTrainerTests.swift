import FermataTasks
import FermataTestSupport
import Testing

@testable import FermataTraining

@Suite struct TaskTrainerTests {
  private func options(_ change: (inout TaskOptions) -> Void = { _ in }) -> TaskOptions {
    var options = TaskOptions()
    options.learningRate = 1e-2
    options.schedule = ConstantSchedule.name
    options.warmup = 10
    options.batch = 16
    options.evaluationCount = 64
    change(&options)
    return options
  }

  /// A recurrence can turn its state over, and what it learnt on short sequences holds on long ones.
  @Test(arguments: ["lstm", "slstm"]) func recurrencesLearnParity(_ mixer: String) throws {
    let task = try Parity(SyntheticTaskSizes(length: 12))
    let settings = options { $0.evaluationLength = 48 }
    var trainer = try TaskTrainer(task, width: 16, layers: 1, mixers: [["type": .string(mixer)]], options: settings)
    var accuracy = 0.0
    while trainer.step < 1500 && accuracy < 0.99 {
      for _ in 0..<50 { _ = try trainer.advance() }
      accuracy = try trainer.accuracy()
    }
    #expect(accuracy >= 0.99, "accuracy \(accuracy) after \(trainer.step) steps")
    #expect(try trainer.accuracy(isFinal: true) >= 0.95)
  }

  @Test func oneSeedGivesOneRun() throws {
    func losses(_ seed: UInt64) throws -> [Double] {
      let task = try AssociativeRecall(SyntheticTaskSizes(items: 2))
      var trainer = try TaskTrainer(
        task, width: 8, layers: 1, mixers: [["type": "gru"]], options: options { $0.seed = seed })
      return try (0..<4).map { _ in try trainer.advance() }
    }
    #expect(try losses(1) == losses(1))
    #expect(try losses(1) != losses(2))
  }

  @Test func refusesSettingsThatCannotBe() throws {
    let task = try Parity(SyntheticTaskSizes(length: 12))
    let changes: [(inout TaskOptions) -> Void] = [
      { $0.steps = 0 }, { $0.batch = 1 << 40 }, { $0.learningRate = .nan }, { $0.target = -1 },
      { $0.evaluationLength = 11 }, { $0.schedule = "cosinus" }, { $0.weightDecay = -1 },
    ]
    for (index, change) in changes.enumerated() {
      #expect(throws: TrainingError.self, "case \(index)") {
        try TaskTrainer(task, width: 8, layers: 1, mixers: [["type": "lstm"]], options: options(change))
      }
    }
  }
}
