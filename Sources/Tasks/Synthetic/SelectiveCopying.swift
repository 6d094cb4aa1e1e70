/// Content tokens lie scattered among noise; then, asked that often, they are to be said in order. Where they lie changes from
/// sequence to sequence, so a filter that is the same everywhere cannot find them.
public struct SelectiveCopying: SyntheticTask {
  public static let name = "selective_copying"
  public static let summary = "repeat the content tokens scattered among noise, in order"
  public static let source = "Jing et al. 2019; Gu & Dao 2023"

  public let length: Int
  private let vocabulary: Int
  private let items: Int

  /// The content, noise, and the mark that asks for the next token.
  public var vocabularySize: Int { vocabulary + 2 }

  public init(_ sizes: SyntheticTaskSizes) throws {
    items = sizes.items ?? 4
    vocabulary = sizes.vocabulary ?? 8
    length = sizes.length ?? 64
    try requireSize("vocabulary", vocabulary, 2...65_536)
    try requireSize("length", length, 2...longestSequence)
    try requireSize("items", items, 1...length / 2)
  }

  public func example(length: Int, isGraded: Bool, random: inout TaskRandom) -> SyntheticExample {
    let (noise, mark) = (Int32(vocabulary), Int32(vocabulary + 1))
    var inputs = [Int32](repeating: noise, count: length - items) + [Int32](repeating: mark, count: items)
    var targets = [Int32](repeating: -1, count: length)
    for (index, place) in random.distinct(items, below: length - items).sorted().enumerated() {
      inputs[place] = Int32(random.below(vocabulary))
      targets[length - items + index] = inputs[place]
    }
    return SyntheticExample(inputs: inputs, targets: targets)
  }
}
