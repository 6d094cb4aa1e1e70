/// Multi-query associative recall: pairs of key and value, then each key again somewhere among noise, where its value is to be
/// said. The more pairs, the more state it takes.
public struct AssociativeRecall: SyntheticTask {
  public static let name = "associative_recall"
  public static let summary = "after pairs of key and value, say each key's value when it comes again"
  public static let source = "Arora et al. 2023"

  public let length: Int
  private let keys: Int
  private let pairs: Int

  /// Keys, as many values, and noise.
  public var vocabularySize: Int { 2 * keys + 1 }

  /// `vocabulary` counts the keys, and the values.
  public init(_ sizes: SyntheticTaskSizes) throws {
    pairs = sizes.items ?? 8
    keys = sizes.vocabulary ?? 32
    try requireSize("items", pairs, 1...longestSequence / 3)
    length = sizes.length ?? 4 * pairs
    try requireSize("vocabulary", keys, max(2, pairs)...65_536)
    try requireSize("length", length, 3 * pairs...longestSequence)
  }

  public func example(length: Int, isGraded: Bool, random: inout TaskRandom) -> SyntheticExample {
    let chosen = random.distinct(pairs, below: keys)
    let values = chosen.map { _ in Int32(keys + random.below(keys)) }
    var inputs = zip(chosen, values).flatMap { [Int32($0), $1] }
    inputs += [Int32](repeating: Int32(2 * keys), count: length - inputs.count)
    var targets = [Int32](repeating: -1, count: length)
    // Both lists are in random order, so keys come again in one of their own.
    for (pair, place) in random.distinct(pairs, below: length - 2 * pairs).enumerated() {
      inputs[2 * pairs + place] = Int32(chosen[pair])
      targets[2 * pairs + place] = values[pair]
    }
    return SyntheticExample(inputs: inputs, targets: targets)
  }
}
