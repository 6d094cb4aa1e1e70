/// The merges of byte-pair encoding: which pairs of tokens become one, and in which order.
struct MergeTable: Sendable {
  private struct Entry {
    var pair: UInt64
    var rank: UInt32
    var merged: UInt32
  }

  private var entries: [Entry]
  private var mask: Int
  private(set) var count = 0
  private static let free = UInt64.max

  init(capacity: Int) {
    var size = 64
    while size < capacity * 2 { size *= 2 }
    entries = [Entry](repeating: Entry(pair: Self.free, rank: 0, merged: 0), count: size)
    mask = size - 1
  }

  @inline(__always)
  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  /// Adds a merge with the next rank. A pair that is there twice keeps one rank: the last, or the first.
  mutating func append(_ left: Int32, _ right: Int32, becomes merged: Int32, keepingFirst: Bool) {
    let key = Self.key(left, right)
    if (count + 1) * 2 > entries.count { grow() }
    var slot = Int(truncatingIfNeeded: Vocabulary.mix(key)) & mask
    while entries[slot].pair != Self.free, entries[slot].pair != key { slot = (slot + 1) & mask }
    if entries[slot].pair == Self.free || !keepingFirst {
      entries[slot] = Entry(pair: key, rank: UInt32(count), merged: UInt32(bitPattern: merged))
    }
    count += 1
  }

  /// Leaves a rank out.
  mutating func skip() { count += 1 }

  private mutating func grow() {
    let old = entries
    entries = [Entry](repeating: Entry(pair: Self.free, rank: 0, merged: 0), count: old.count * 2)
    mask = entries.count - 1
    for entry in old where entry.pair != Self.free {
      var slot = Int(truncatingIfNeeded: Vocabulary.mix(entry.pair)) & mask
      while entries[slot].pair != Self.free { slot = (slot + 1) & mask }
      entries[slot] = entry
    }
  }

  /// The rank of a pair and what it becomes; nil when the two do not merge.
  @inline(__always)
  func find(_ left: Int32, _ right: Int32) -> (rank: UInt32, merged: Int32)? {
    let key = Self.key(left, right)
    return entries.withUnsafeBufferPointer { entries in
      var slot = Int(truncatingIfNeeded: Vocabulary.mix(key)) & mask
      while true {
        let entry = entries[slot]
        if entry.pair == key { return (entry.rank, Int32(bitPattern: entry.merged)) }
        if entry.pair == Self.free { return nil }
        slot = (slot + 1) & mask
      }
    }
  }
}
