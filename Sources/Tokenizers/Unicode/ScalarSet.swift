/// A set of Unicode scalars (and of invalid bytes, see `UTF8Scalar`) as sorted ranges: what classes of regular
/// expressions are computed with.
struct ScalarSet: Hashable, Sendable {
  /// Half-open, in order, with gaps between.
  private(set) var ranges: [Range<UInt32>] = []

  static let all = ScalarSet(ranges: [0..<UTF8Scalar.limit])

  init() {}

  private init(ranges: [Range<UInt32>]) { self.ranges = ranges }

  init(_ range: ClosedRange<UInt32>) { ranges = [range.lowerBound..<range.upperBound + 1] }

  init(_ scalar: UInt32) { ranges = [scalar..<scalar + 1] }

  /// The scalars of a text.
  init(_ text: String) { self = ScalarSet(unsorted: text.unicodeScalars.map { $0.value..<$0.value + 1 }) }

  init(unsorted: [Range<UInt32>]) {
    for range in unsorted.sorted(by: { $0.lowerBound < $1.lowerBound }) where !range.isEmpty {
      if let last = ranges.last, last.upperBound >= range.lowerBound {
        ranges[ranges.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
      } else {
        ranges.append(range)
      }
    }
  }

  /// What is in any of some sets, in time linear in their ranges but for a logarithm.
  init(union sets: some Sequence<ScalarSet>) {
    var union = ScalarSetUnion()
    for set in sets { union.add(set) }
    self = union.set
  }

  func union(_ other: ScalarSet) -> ScalarSet { ScalarSet(unsorted: ranges + other.ranges) }

  var inverted: ScalarSet {
    var result: [Range<UInt32>] = []
    var start: UInt32 = 0
    for range in ranges {
      if start < range.lowerBound { result.append(start..<range.lowerBound) }
      start = range.upperBound
    }
    if start < UTF8Scalar.limit { result.append(start..<UTF8Scalar.limit) }
    return ScalarSet(ranges: result)
  }

  func intersection(_ other: ScalarSet) -> ScalarSet { inverted.union(other.inverted).inverted }

  func symmetricDifference(_ other: ScalarSet) -> ScalarSet {
    intersection(other.inverted).union(inverted.intersection(other))
  }

  /// The one member of a set of one.
  var single: UInt32? { ranges.count == 1 && ranges[0].count == 1 ? ranges[0].lowerBound : nil }

  func contains(_ scalar: UInt32) -> Bool { ranges.contains { $0.contains(scalar) } }

  /// With every scalar that differs from a member only by case, by simple folding. Large ranges are not looked at beyond
  /// ASCII.
  var foldingCase: ScalarSet {
    var added: [Range<UInt32>] = []
    for range in ranges {
      let looked = range.count <= 4096 ? range : range.lowerBound..<max(range.lowerBound, min(range.upperBound, 0x80))
      for value in looked { added += Self.caseVariants(value).map { $0..<$0 + 1 } }
    }
    return union(ScalarSet(unsorted: added))
  }

  private static func caseVariants(_ value: UInt32) -> [UInt32] {
    guard let scalar = Unicode.Scalar(value) else { return [] }
    // Three signs fold to letters: long s, the Kelvin sign and the Ångström sign.
    let signs: [UInt32: [UInt32]] = [
      0x53: [0x17F], 0x73: [0x17F], 0x17F: [0x53, 0x73], 0x4B: [0x212A], 0x6B: [0x212A], 0x212A: [0x4B, 0x6B],
      0xC5: [0x212B], 0xE5: [0x212B], 0x212B: [0xC5, 0xE5],
    ]
    let mapped = [scalar.properties.lowercaseMapping, scalar.properties.uppercaseMapping].compactMap { text in
      text.unicodeScalars.count == 1 ? text.unicodeScalars.first?.value : nil
    }
    return mapped + (signs[value] ?? [])
  }
}

/// A union that grows: ranges are gathered, and put in order when they have doubled.
struct ScalarSetUnion {
  private var ranges: [Range<UInt32>] = []
  private var limit = 1024

  var set: ScalarSet { ScalarSet(unsorted: ranges) }

  mutating func add(_ set: ScalarSet) {
    ranges += set.ranges
    guard ranges.count > limit else { return }
    ranges = self.set.ranges
    limit = max(1024, 2 * ranges.count)
  }
}

/// A set of scalars that answers in constant time: a bit for each, with equal blocks of 256 stored once.
///
/// Unchecked because of the pointers: the memory is written once and lives as long as the object.
final class ScalarBitmap: @unchecked Sendable {
  /// The bitmap without its owner, for inner loops; valid while the object lives.
  struct View {
    fileprivate let blocks: UnsafePointer<UInt64>
    fileprivate let blockOf: UnsafePointer<UInt16>
    fileprivate let ascii: (UInt64, UInt64)

    /// Whether the set holds a scalar or invalid byte.
    @inline(__always)
    func contains(_ scalar: UInt32) -> Bool {
      if scalar < 64 { return ascii.0 >> UInt64(scalar) & 1 != 0 }
      if scalar < 128 { return ascii.1 >> UInt64(scalar & 63) & 1 != 0 }
      return blocks[Int(blockOf[Int(scalar >> 8)]) * 4 + Int(scalar >> 6 & 3)] >> UInt64(scalar & 63) & 1 != 0
    }
  }

  let view: View
  private let blocks: UnsafeMutablePointer<UInt64>
  private let blockOf: UnsafeMutablePointer<UInt16>

  init(_ set: ScalarSet) {
    // Block 0 is empty, block 1 full; only blocks that a range begins or ends in are others.
    var words: [UInt64] = [0, 0, 0, 0, .max, .max, .max, .max]
    var numbers = [UInt16](repeating: 0, count: Int(UTF8Scalar.limit >> 8))
    for range in set.ranges { Self.insert(range, &words, &numbers) }
    blocks = .allocate(capacity: words.count)
    blocks.initialize(from: words, count: words.count)
    blockOf = .allocate(capacity: numbers.count)
    blockOf.initialize(from: numbers, count: numbers.count)
    let first = Int(numbers[0]) * 4
    view = View(blocks: blocks, blockOf: blockOf, ascii: (words[first], words[first + 1]))
  }

  deinit {
    blocks.deallocate()
    blockOf.deallocate()
  }

  private static func insert(_ range: Range<UInt32>, _ words: inout [UInt64], _ numbers: inout [UInt16]) {
    var start = range.lowerBound
    while start < range.upperBound {
      let block = Int(start >> 8)
      let end = min(range.upperBound, UInt32(block + 1) << 8)
      if end - start == 256 {
        numbers[block] = 1
      } else {
        if numbers[block] == 0 {
          numbers[block] = UInt16(words.count / 4)
          words += [0, 0, 0, 0]
        }
        for value in start..<end { words[Int(numbers[block]) * 4 + Int(value >> 6 & 3)] |= 1 << UInt64(value & 63) }
      }
      start = end
    }
  }

  /// Whether the set holds a scalar or invalid byte.
  func contains(_ scalar: UInt32) -> Bool { view.contains(scalar) }
}
