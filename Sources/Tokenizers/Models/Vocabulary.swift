/// The tokens of a vocabulary: bytes to ids and back. One buffer holds the bytes of all tokens and one flat table finds
/// them, so that hundreds of thousands are read in milliseconds.
struct Vocabulary: Sendable {
  private var bytes: [UInt8] = []
  /// Where the bytes of an entry end; it begins where the one before ends.
  private var ends: [UInt32] = []
  private var ids: [Int32] = []
  private var entryOfID: [Int32] = []
  /// Entry + 1 by hash, open addressing; 0 is free. The upper half of the hash stands beside it.
  private var slots: [UInt64]
  private(set) var longest = 0

  /// - Parameter capacity: about how many tokens will come.
  init(capacity: Int = 16) {
    var size = 64
    while size < capacity * 2 { size *= 2 }
    slots = [UInt64](repeating: 0, count: size)
    ends.reserveCapacity(capacity)
    ids.reserveCapacity(capacity)
  }

  /// The highest id and one.
  var size: Int { entryOfID.count }
  /// How many tokens there are.
  var count: Int { ids.count }

  /// Whether an id is one that a vocabulary of this size may have: not negative, and not so far up that tables of all ids
  /// would be larger than the file justifies.
  func canHold(_ id: Int) -> Bool { id >= 0 && id < max(1 << 19, ids.count &* 16) }

  /// Adds a token. Of equal ones, and of those with equal ids, the last counts.
  /// - Throws: `TokenizerError` for ids that cannot be: negative, or far above the number of tokens.
  mutating func insert(_ token: UnsafeRawBufferPointer, id: Int, in place: String) throws {
    guard canHold(id) else {
      throw TokenizerError(place, "the id \(id) cannot be in a vocabulary of this size", advice: "the file is damaged")
    }
    guard bytes.count + token.count < 1 << 31 else { throw TokenizerError(place, "the tokens are too long") }
    if entryOfID.count <= id { entryOfID += repeatElement(-1, count: id + 1 - entryOfID.count) }
    let hash = Self.hash(token)
    let slot = find(token, hash)
    if slots[slot] != 0 {
      ids[Int(UInt32(truncatingIfNeeded: slots[slot])) - 1] = Int32(id)
      entryOfID[id] = Int32(UInt32(truncatingIfNeeded: slots[slot])) - 1
      return
    }
    entryOfID[id] = Int32(ids.count)
    bytes.append(contentsOf: token)
    ends.append(UInt32(bytes.count))
    ids.append(Int32(id))
    longest = max(longest, token.count)
    slots[slot] = hash & 0xFFFF_FFFF_0000_0000 | UInt64(ids.count)
    if ids.count * 2 > slots.count { grow() }
  }

  mutating func insert(_ token: String, id: Int, in place: String) throws {
    try Array(token.utf8).withUnsafeBytes { try insert($0, id: id, in: place) }
  }

  private mutating func grow() {
    slots = [UInt64](repeating: 0, count: slots.count * 2)
    bytes.withUnsafeBytes { all in
      for entry in ids.indices {
        let token = UnsafeRawBufferPointer(rebasing: all[range(ofEntry: entry)])
        let hash = Self.hash(token)
        var slot = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[slot] != 0 { slot = (slot + 1) & (slots.count - 1) }
        slots[slot] = hash & 0xFFFF_FFFF_0000_0000 | UInt64(entry + 1)
      }
    }
  }

  private func range(ofEntry entry: Int) -> Range<Int> { (entry == 0 ? 0 : Int(ends[entry - 1]))..<Int(ends[entry]) }

  /// The slot of a token, or the free one where it would be.
  private func find(_ token: UnsafeRawBufferPointer, _ hash: UInt64) -> Int {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: hash) & mask
    return slots.withUnsafeBufferPointer { slots in
      while slots[slot] != 0 {
        if (slots[slot] ^ hash) >> 32 == 0, holds(Int(UInt32(truncatingIfNeeded: slots[slot])) - 1, token) { break }
        slot = (slot + 1) & mask
      }
      return slot
    }
  }

  private func holds(_ entry: Int, _ token: UnsafeRawBufferPointer) -> Bool {
    let range = range(ofEntry: entry)
    guard range.count == token.count else { return false }
    return bytes.withUnsafeBytes { all in
      var index = 0
      while index < token.count {
        if all[range.lowerBound + index] != token[index] { return false }
        index += 1
      }
      return true
    }
  }

  /// The id of a token; nil for what is none.
  func id(_ token: UnsafeRawBufferPointer) -> Int? {
    let slot = slots[find(token, Self.hash(token))]
    return slot == 0 ? nil : Int(ids[Int(UInt32(truncatingIfNeeded: slot)) - 1])
  }

  func id(_ token: [UInt8]) -> Int? { token.withUnsafeBytes { id($0) } }

  func id(_ token: String) -> Int? { id(Array(token.utf8)) }

  /// The bytes of a token as its file writes it; nil for ids that name none.
  func token(_ id: Int) -> [UInt8]? {
    guard entryOfID.indices.contains(id), entryOfID[id] >= 0 else { return nil }
    return Array(bytes[range(ofEntry: Int(entryOfID[id]))])
  }

  /// Calls `body` with every token and its id.
  func forEach(_ body: (UnsafeRawBufferPointer, Int) throws -> Void) rethrows {
    try bytes.withUnsafeBytes { all in
      for entry in ids.indices {
        try body(UnsafeRawBufferPointer(rebasing: all[range(ofEntry: entry)]), Int(ids[entry]))
      }
    }
  }

  /// Another one in every process, so that no file can hold tokens made to share one place.
  private static let seed = UInt64.random(in: .min ... .max)

  /// A hash of bytes that mixes eight at a time.
  @inline(__always)
  static func hash(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var hash = seed ^ UInt64(truncatingIfNeeded: bytes.count)
    var offset = 0
    while offset + 8 <= bytes.count {
      hash = mix(hash ^ bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      offset += 8
    }
    var rest: UInt64 = 0
    while offset < bytes.count {
      rest = rest << 8 | UInt64(bytes[offset])
      offset += 1
    }
    return mix(hash ^ rest)
  }

  @inline(__always)
  static func mix(_ value: UInt64) -> UInt64 {
    let product = value.multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
    return product.high ^ product.low
  }
}
