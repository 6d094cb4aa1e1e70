import Foundation

/// Removes documents that are mostly contained in another one, such as older versions of the same text.
///
/// A document is the set of hashes of its shingles: runs of five words, or of twelve bytes where the text is not
/// made of words. The containment of A in B is |A ∩ B| / |A| (Broder, 1997). From the largest document to the smallest
/// (the first of equals), each is kept unless one already kept contains more than the threshold of it. For large
/// corpora only the
/// hashes divisible by a power of two are compared, which estimates the same ratio. Nothing is random.
public struct NearDuplicates: Sendable {
  /// A document that was left out.
  public struct Removal: Equatable, Sendable {
    /// The document left out.
    public let name: String
    /// The kept document that contains most of it.
    public let kept: String
    /// How much of it the kept one contains, 0...1.
    public let containment: Double
  }

  /// Documents contained more than this in another are left out.
  public var threshold: Double
  /// About the most hashes that are compared in all: it bounds memory, some 100 bytes for each.
  var budget = 4_000_000

  static let wordsPerShingle = 5
  static let bytesPerShingle = 12

  /// - Parameter threshold: between 0 and 1.
  public init(threshold: Double = 0.5) { self.threshold = threshold }

  /// The documents to keep, in their order, and what was left out.
  public func remove(from corpus: Corpus) -> (corpus: Corpus, removed: [Removal]) {
    let documents = corpus.documents
    let byWords = Shingles.areWords(documents)
    let mask = sampling(corpus.size, byWords: byWords)
    let order = documents.indices.sorted { first, second in
      (-documents[first].bytes.count, first) < (-documents[second].bytes.count, second)
    }
    var holders: [UInt64: [Int32]] = [:]
    var removed: [Int: Removal] = [:]
    for index in order {
      let hashes = documents[index].bytes.withUnsafeBytes { Shingles.hashes($0, byWords: byWords, mask: mask) }
      if let (other, containment) = mostContaining(hashes, holders), containment > threshold {
        removed[index] = Removal(
          name: documents[index].name, kept: documents[other].name, containment: containment)
      } else {
        for hash in hashes { holders[hash, default: []].append(Int32(index)) }
      }
    }
    var kept = corpus
    kept.documents = documents.indices.filter { removed[$0] == nil }.map { documents[$0] }
    return (kept, documents.indices.compactMap { removed[$0] })
  }

  private func mostContaining(_ hashes: Set<UInt64>, _ holders: [UInt64: [Int32]]) -> (Int, Double)? {
    var counts: [Int32: Int] = [:]
    for hash in hashes {
      for holder in holders[hash] ?? [] { counts[holder, default: 0] += 1 }
    }
    let best = counts.max { ($0.value, -$0.key) < ($1.value, -$1.key) }
    return best.map { (Int($0.key), Double($0.value) / Double(hashes.count)) }
  }

  /// The mask whose bits must be 0 in a hash that is compared.
  private func sampling(_ size: Int, byWords: Bool) -> UInt64 {
    var mask: UInt64 = 0
    var expected = byWords ? size / 6 : size
    while expected > budget {
      mask = mask << 1 | 1
      expected /= 2
    }
    return mask
  }
}

/// Hashes of runs of words or bytes.
enum Shingles {
  /// Whether the documents are made of words: at least one in 16 bytes, judged by their beginnings.
  static func areWords(_ documents: [Document]) -> Bool {
    var bytes = 0
    var words = 0
    for document in documents {
      let start = document.bytes.prefix(1 << 16)
      bytes += start.count
      start.withUnsafeBytes { eachWord($0) { _ in words += 1 } }
    }
    return words >= bytes / 16
  }

  /// The set of a document's hashes whose bits under `mask` are 0; never empty.
  static func hashes(_ bytes: UnsafeRawBufferPointer, byWords: Bool, mask: UInt64) -> Set<UInt64> {
    var result: Set<UInt64> = []
    var window: [UInt64] = []
    var smallest = UInt64.max
    let length = byWords ? NearDuplicates.wordsPerShingle : NearDuplicates.bytesPerShingle
    var count = 0
    func close() {
      var hash: UInt64 = 0
      // From the oldest element on, so that equal runs have equal hashes wherever they stand in the ring.
      for step in 0..<window.count { hash = SplitMix64.mix(hash &* 3 &+ window[(count + step) % window.count]) }
      smallest = min(smallest, hash)
      if hash & mask == 0 { result.insert(hash) }
    }
    func push(_ element: UInt64) {
      if window.count < length { window.append(element) } else { window[count % length] = element }
      count += 1
      if window.count == length { close() }
    }
    if byWords { eachWord(bytes, push) } else { for byte in bytes { push(UInt64(byte) + 1) } }
    if window.count < length { close() }
    if result.isEmpty { result.insert(smallest) }
    return result
  }

  /// Calls `body` with the hash of each word: letters (in lower case), digits, and all bytes beyond ASCII.
  private static func eachWord(_ bytes: UnsafeRawBufferPointer, _ body: (UInt64) -> Void) {
    let start: UInt64 = 0xCBF2_9CE4_8422_2325
    var hash = start
    for byte in bytes {
      let lower = byte | 0x20
      let isWord = byte >= 0x80 || (0x61...0x7A).contains(lower) || (0x30...0x39).contains(byte)
      if isWord {
        let folded = byte < 0x80 && byte >= 0x40 ? lower : byte
        hash = (hash ^ UInt64(folded)) &* 0x100_0000_01B3
      } else if hash != start {
        body(SplitMix64.mix(hash))
        hash = start
      }
    }
    if hash != start { body(SplitMix64.mix(hash)) }
  }
}
