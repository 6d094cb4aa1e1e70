/// A mark stands once among random tokens and again at the end: what followed it the first time is to be said. It is recall of one
/// pair, over any distance (Olsson et al. 2022 found heads that do this in transformers).
public struct InductionHeads: SyntheticTask {
  public static let name = "induction_heads"
  public static let summary = "say what followed the mark when it was last seen"
  public static let source = "Olsson et al. 2022; Gu & Dao 2023"

  public let length: Int
  private let vocabulary: Int

  /// The content, and the mark.
  public var vocabularySize: Int { vocabulary + 1 }

  public init(_ sizes: SyntheticTaskSizes) throws {
    vocabulary = sizes.vocabulary ?? 16
    length = sizes.length ?? 64
    try requireSize("vocabulary", vocabulary, 2...65_536)
    try requireSize("length", length, 3...longestSequence)
    if sizes.items != nil {
      throw DataError.invalid(setting: "items", reason: "means nothing here: there is one pair to remember")
    }
  }

  public func example(length: Int, isGraded: Bool, random: inout TaskRandom) -> SyntheticExample {
    var inputs = (0..<length).map { _ in Int32(random.below(vocabulary)) }
    let place = random.below(length - 2)
    inputs[place] = Int32(vocabulary)
    inputs[length - 1] = Int32(vocabulary)
    var targets = [Int32](repeating: -1, count: length)
    targets[length - 1] = inputs[place + 1]
    return SyntheticExample(inputs: inputs, targets: targets)
  }
}
