import FermataFiles

/// One sequence of a made-up task: what is read, and what is to be said where.
public struct SyntheticExample: Sendable, Equatable {
  /// Token ids.
  public var inputs: [Int32]
  /// The answer at each token; -1 where nothing is asked.
  public var targets: [Int32]

  public init(inputs: [Int32], targets: [Int32]) {
    self.inputs = inputs
    self.targets = targets
  }
}

/// Sizes of a synthetic task; what is nil is the task's own default.
public struct SyntheticTaskSizes: Sendable, Equatable {
  /// Tokens of a training sequence.
  public var length: Int?
  /// Kinds of content tokens.
  public var vocabulary: Int?
  /// Things to remember: tokens to copy, or pairs of key and value.
  public var items: Int?

  public init(length: Int? = nil, vocabulary: Int? = nil, items: Int? = nil) {
    self.length = length
    self.vocabulary = vocabulary
    self.items = items
  }
}

/// A task whose sequences are made, not collected: a probe of one thing that a mixer can or cannot do.
public protocol SyntheticTask: Sendable {
  static var name: String { get }
  /// One line for lists.
  static var summary: String { get }
  /// Authors and year.
  static var source: String { get }

  /// - Throws: `DataError.invalid` for sizes that cannot be.
  init(_ sizes: SyntheticTaskSizes) throws

  /// Token ids are below it.
  var vocabularySize: Int { get }
  /// Tokens of a training sequence.
  var length: Int { get }

  /// A sequence of any length from that of training on. `isGraded` says that accuracy is counted at its answers; in training a
  /// task may ask for more.
  func example(length: Int, isGraded: Bool, random: inout TaskRandom) -> SyntheticExample
}

/// The table of synthetic tasks.
public enum SyntheticTasks {
  public static let all: [any SyntheticTask.Type] = [
    Parity.self, SelectiveCopying.self, InductionHeads.self, AssociativeRecall.self,
  ]

  /// - Throws: `DataError.invalid` for a name that is not in the table.
  public static func named(_ name: String) throws -> any SyntheticTask.Type {
    guard let type = all.first(where: { $0.name == name }) else {
      throw DataError.invalid(
        setting: "task", reason: "'\(name)' does not exist (\(StrictJSON.unknown(name, among: all.map { $0.name })))")
    }
    return type
  }
}

/// Draws for sequences: they depend on a seed alone.
public struct TaskRandom: Sendable {
  private var generator: SplitMix64

  /// The draws of one purpose: `stream` tells apart those of one seed.
  public init(seed: UInt64, stream: UInt64) { generator = SplitMix64(seed: seed, stream: stream) }

  /// A number in 0..<limit.
  public mutating func below(_ limit: Int) -> Int { generator.below(limit) }

  /// `count` different numbers in 0..<limit, in random order.
  public mutating func distinct(_ count: Int, below limit: Int) -> [Int] {
    var all = Array(0..<limit)
    // Fisher and Yates, only as far as needed.
    for index in 0..<count { all.swapAt(index, index + generator.below(limit - index)) }
    return Array(all.prefix(count))
  }
}

extension SyntheticTask {
  /// Sequences of one length as a batch.
  public func batch(_ count: Int, length: Int, isGraded: Bool, random: inout TaskRandom) -> TokenBatch {
    var batch = TokenBatch(batch: count, length: length, padding: 0)
    for row in 0..<count {
      let example = example(length: length, isGraded: isGraded, random: &random)
      let range = row * length..<(row + 1) * length
      batch.inputs.replaceSubrange(range, with: example.inputs)
      batch.targets.replaceSubrange(range, with: example.targets)
      batch.documents.replaceSubrange(range, with: repeatElement(Int32(row), count: length))
    }
    return batch
  }
}

/// Throws unless a size is in its range.
func requireSize(_ name: String, _ value: Int, _ range: ClosedRange<Int>) throws {
  guard range.contains(value) else {
    throw DataError.invalid(
      setting: name, reason: "must be in \(range.lowerBound)...\(range.upperBound) for this task, got \(value)")
  }
}

/// The longest sequence of any synthetic task.
let longestSequence = 1 << 20
