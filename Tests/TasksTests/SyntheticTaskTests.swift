import Testing

@testable import FermataTasks

/// Synthetic tasks against plain re-tellings of what they ask.
@Suite struct SyntheticTaskTests {
  private func examples(_ task: any SyntheticTask, length: Int? = nil, isGraded: Bool = true) -> [SyntheticExample] {
    var random = TaskRandom(seed: 5, stream: 1)
    return (0..<200).map { _ in
      task.example(length: length ?? task.length, isGraded: isGraded, random: &random)
    }
  }

  private func answers(_ example: SyntheticExample) -> [Int32] { example.targets.filter { $0 >= 0 } }

  @Test func everyTaskKeepsItsRanges() throws {
    for type in SyntheticTasks.all {
      let task = try type.init(SyntheticTaskSizes())
      for length in [task.length, 4 * task.length] {
        for example in examples(task, length: length) {
          #expect(example.inputs.count == length && example.targets.count == length)
          #expect(example.inputs.allSatisfy { (0..<Int32(task.vocabularySize)).contains($0) })
          #expect(example.targets.allSatisfy { (-1..<Int32(task.vocabularySize)).contains($0) })
          #expect(!answers(example).isEmpty)
        }
      }
      #expect(try SyntheticTasks.named(type.name) == type)
    }
    #expect(throws: DataError.self) { try SyntheticTasks.named("parrity") }
  }

  @Test func parityCountsOnes() throws {
    let task = try Parity(SyntheticTaskSizes(length: 9))
    for example in examples(task) {
      #expect(answers(example) == [Int32(example.inputs.reduce(0, +) % 2)])
      #expect(example.targets.last == answers(example)[0])
    }
    for example in examples(task, isGraded: false) {
      for (index, target) in example.targets.enumerated() {
        #expect(target == example.inputs.prefix(index + 1).reduce(0, +) % 2)
      }
    }
    #expect(throws: DataError.self) { try Parity(SyntheticTaskSizes(items: 3)) }
  }

  @Test func copyingKeepsTheOrder() throws {
    let task = try SelectiveCopying(SyntheticTaskSizes(length: 20, vocabulary: 6, items: 3))
    for example in examples(task) {
      #expect(answers(example) == example.inputs.filter { $0 < 6 })
      #expect(example.inputs.suffix(3) == [7, 7, 7] && answers(example).count == 3)
      #expect(example.targets.prefix(17).allSatisfy { $0 == -1 })
    }
    #expect(throws: DataError.self) { try SelectiveCopying(SyntheticTaskSizes(length: 4, items: 3)) }
  }

  @Test func inductionRecallsWhatFollowedTheMark() throws {
    let task = try InductionHeads(SyntheticTaskSizes(length: 12, vocabulary: 5))
    var places = Set<Int>()
    for example in examples(task) {
      let marks = example.inputs.indices.filter { example.inputs[$0] == 5 }
      #expect(marks.count == 2 && marks[1] == 11)
      #expect(example.targets == Array(repeating: -1, count: 11) + [example.inputs[marks[0] + 1]])
      places.insert(marks[0])
    }
    #expect(places == Set(0...9))
  }

  @Test func recallAsksForEveryKeyOnce() throws {
    let task = try AssociativeRecall(SyntheticTaskSizes(length: 20, vocabulary: 7, items: 5))
    for example in examples(task) {
      let pairs = (0..<5).map { (example.inputs[2 * $0], example.inputs[2 * $0 + 1]) }
      let values = Dictionary(pairs) { first, _ in first }
      #expect(values.count == 5)
      var asked: [Int32] = []
      for index in 10..<20 where example.targets[index] >= 0 {
        #expect(values[example.inputs[index]] == example.targets[index])
        asked.append(example.inputs[index])
      }
      #expect(asked.sorted() == values.keys.sorted())
      #expect(example.targets.prefix(10).allSatisfy { $0 == -1 })
    }
    #expect(throws: DataError.self) { try AssociativeRecall(SyntheticTaskSizes(vocabulary: 4, items: 5)) }
  }

  @Test func drawsDependOnTheSeedAlone() throws {
    let task = try SelectiveCopying(SyntheticTaskSizes())
    func batch(_ seed: UInt64, _ stream: UInt64) -> TokenBatch {
      var random = TaskRandom(seed: seed, stream: stream)
      return task.batch(3, length: 64, isGraded: true, random: &random)
    }
    #expect(batch(1, 1) == batch(1, 1))
    #expect(batch(1, 1) != batch(1, 2) && batch(1, 1) != batch(2, 1))
    #expect(batch(1, 1).targetCount == 12)
  }
}
