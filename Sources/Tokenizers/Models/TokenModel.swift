/// Turns the pieces that pre-tokenizers cut into ids.
protocol TokenModel: Sendable {
  /// Tokens and their ids.
  var vocabulary: Vocabulary { get }
  /// Appends the ids of one piece of a text. `scratch` belongs to the call of `encode` that this is part of.
  func encode(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: inout ModelScratch, into ids: inout [Int]) throws
}

/// What a model keeps while it works on one text: memory it reuses, and the pieces it has already seen.
struct ModelScratch {
  var cache = PieceCache()
  var symbols = MergeScratch()
}

/// The ids of short pieces that have been seen: natural text repeats its words.
struct PieceCache {
  private struct Entry {
    var hash: UInt64
    var textStart: UInt32
    var textCount: UInt32
    var idStart: UInt32
    var idCount: UInt32
  }

  static let longestPiece = 64
  private static let mostEntries = 1 << 16
  private var slots: [UInt32] = []
  private var entries: [Entry] = []
  private var texts: [UInt8] = []
  private var allIDs: [Int] = []

  /// Appends the ids of a piece when they are known.
  mutating func append(_ piece: UnsafeBufferPointer<UInt8>, _ hash: UInt64, into ids: inout [Int]) -> Bool {
    if slots.isEmpty { return false }
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: hash) & mask
    while slots[slot] != 0 {
      let entry = entries[Int(slots[slot]) - 1]
      if entry.hash == hash, holds(entry, piece) {
        ids.append(contentsOf: allIDs[Int(entry.idStart)..<Int(entry.idStart + entry.idCount)])
        return true
      }
      slot = (slot + 1) & mask
    }
    return false
  }

  private func holds(_ entry: Entry, _ piece: UnsafeBufferPointer<UInt8>) -> Bool {
    guard Int(entry.textCount) == piece.count else { return false }
    return texts.withUnsafeBufferPointer { texts in
      var index = 0
      while index < piece.count {
        if texts[Int(entry.textStart) + index] != piece[index] { return false }
        index += 1
      }
      return true
    }
  }

  /// Keeps what a piece became.
  mutating func insert(_ piece: UnsafeBufferPointer<UInt8>, _ hash: UInt64, ids: ArraySlice<Int>) {
    guard entries.count < Self.mostEntries else { return }
    entries.append(
      Entry(
        hash: hash, textStart: UInt32(texts.count), textCount: UInt32(piece.count), idStart: UInt32(allIDs.count),
        idCount: UInt32(ids.count)))
    texts.append(contentsOf: piece)
    allIDs.append(contentsOf: ids)
    if entries.count * 2 > slots.count {
      slots = [UInt32](repeating: 0, count: max(256, slots.count * 4))
      for index in entries.indices { place(index) }
    } else {
      place(entries.count - 1)
    }
  }

  private mutating func place(_ index: Int) {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: entries[index].hash) & mask
    while slots[slot] != 0 { slot = (slot + 1) & mask }
    slots[slot] = UInt32(index + 1)
  }
}

extension TokenModel {
  /// Encodes a piece, or copies what an equal one became.
  @inline(__always)
  func encodeCached(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: inout ModelScratch, into ids: inout [Int]) throws {
    guard piece.count <= PieceCache.longestPiece else { return try encode(piece, &scratch, into: &ids) }
    let hash = Vocabulary.hash(UnsafeRawBufferPointer(piece))
    if scratch.cache.append(piece, hash, into: &ids) { return }
    let start = ids.count
    try encode(piece, &scratch, into: &ids)
    scratch.cache.insert(piece, hash, ids: ids[start...])
  }
}
