/// Whether the number of ones so far is odd: the smallest problem that needs a state which every token can turn over.
///
/// Training asks after every bit; graded is the last bit's answer alone, which every bit before it can turn over.
public struct Parity: SyntheticTask {
  public static let name = "parity"
  public static let summary = "whether the ones so far are odd in number; graded at the last bit"
  public static let source = "Hahn 2020; Grazzi et al. 2025"

  public let length: Int
  public let vocabularySize = 2

  public init(_ sizes: SyntheticTaskSizes) throws {
    length = sizes.length ?? 40
    try requireSize("length", length, 1...longestSequence)
    for (name, value) in [("vocabulary", sizes.vocabulary), ("items", sizes.items)] where value != nil {
      throw DataError.invalid(setting: name, reason: "means nothing here: parity reads bits")
    }
  }

  public func example(length: Int, isGraded: Bool, random: inout TaskRandom) -> SyntheticExample {
    let bits = (0..<length).map { _ in Int32(random.below(2)) }
    var parity: Int32 = 0
    var targets: [Int32] = []
    for (index, bit) in bits.enumerated() {
      parity ^= bit
      targets.append(isGraded && index < length - 1 ? -1 : parity)
    }
    return SyntheticExample(inputs: bits, targets: targets)
  }
}
