/// Byte-pair encoding as SentencePiece has it: neighbours merge when what they spell is a token, the one with the highest
/// score first (Kudo & Richardson 2018).
struct ScoredMergeModel: TokenModel {
  let vocabulary: Vocabulary
  /// What characters may merge into: all but control, unknown and byte tokens.
  private let mergeable: Vocabulary
  private let scores: [Float]
  private let unused: Set<Int>
  private let unknown: Int
  private let byteTokens: [Int]?
  /// Tokens that are cut out before anything merges, and never merge.
  private let frozen: PieceTrie

  init(
    _ vocabulary: Vocabulary, mergeable: Vocabulary, scores: [Float], unused: Set<Int>, unknown: Int,
    fallsBackToBytes: Bool, frozen: PieceTrie
  ) {
    self.vocabulary = vocabulary
    self.mergeable = mergeable
    self.scores = scores
    self.unused = unused
    self.unknown = unknown
    self.frozen = frozen
    byteTokens = fallsBackToBytes ? ByteTokens.find(in: vocabulary) : nil
  }

  func encode(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: inout ModelScratch, into ids: inout [Int]) throws {
    var merger = ScoredMerger(piece, mergeable, scores, frozen, keepsCuts: !unused.isEmpty)
    merger.run()
    var wasUnknown = false
    merger.forEach { range in append(range, piece, merger, &wasUnknown, into: &ids) }
  }

  private func append(
    _ range: Range<Int>, _ piece: UnsafeBufferPointer<UInt8>, _ merger: ScoredMerger, _ wasUnknown: inout Bool,
    into ids: inout [Int]
  ) {
    let text = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(piece)[range])
    if let id = mergeable.id(text) {
      // A token that is not to be used falls into the two it was merged from.
      if unused.contains(id), let middle = merger.cut(range) {
        append(range.lowerBound..<middle, piece, merger, &wasUnknown, into: &ids)
        append(middle..<range.upperBound, piece, merger, &wasUnknown, into: &ids)
        return
      }
      ids.append(id)
      wasUnknown = false
    } else if let byteTokens {
      for byte in text { ids.append(byteTokens[Int(byte)]) }
      wasUnknown = false
    } else {
      if !wasUnknown { ids.append(unknown) }
      wasUnknown = true
    }
  }
}

/// One text on its way: symbols are stretches of it, linked to their neighbours.
private struct ScoredMerger {
  private let text: UnsafeRawBufferPointer
  private let vocabulary: Vocabulary
  private let scores: [Float]
  private var ends: [Int32] = []
  private var starts: [Int32] = []
  private var previous: [Int32] = []
  private var next: [Int32] = []
  private var isFrozen: Set<Int32> = []
  private var heap = OrderedHeap()
  private let keepsCuts: Bool
  private var cuts: [Range<Int>: Int] = [:]

  init(
    _ piece: UnsafeBufferPointer<UInt8>, _ vocabulary: Vocabulary, _ scores: [Float], _ frozen: PieceTrie,
    keepsCuts: Bool
  ) {
    self.keepsCuts = keepsCuts
    text = UnsafeRawBufferPointer(piece)
    self.vocabulary = vocabulary
    self.scores = scores
    guard let bytes = piece.baseAddress else { return }
    var offset = 0
    while offset < piece.count {
      var length = UTF8Scalar.decode(bytes, offset, piece.count).length
      if !frozen.isEmpty, let match = frozen.longestMatch(piece, offset, piece.count) {
        length = match.end - offset
        isFrozen.insert(Int32(starts.count))
      }
      starts.append(Int32(offset))
      offset += length
      ends.append(Int32(offset))
    }
  }

  private func pair(_ left: Int32, _ right: Int32) -> (order: UInt32, id: Int)? {
    if !isFrozen.isEmpty, isFrozen.contains(left) || isFrozen.contains(right) { return nil }
    let whole = UnsafeRawBufferPointer(rebasing: text[Int(starts[Int(left)])..<Int(ends[Int(right)])])
    guard whole.count <= vocabulary.longest, let id = vocabulary.id(whole) else { return nil }
    return (Self.order(scores[id]), id)
  }

  /// A number that is smaller the higher the score.
  private static func order(_ score: Float) -> UInt32 {
    let bits = score.bitPattern
    return ~(bits >> 31 == 0 ? bits | 1 << 31 : ~bits)
  }

  mutating func run() {
    let count = starts.count
    guard count > 1 else { return }
    previous = (0..<Int32(count)).map { $0 - 1 }
    next = (1...Int32(count)).map { $0 }
    next[count - 1] = -1
    for left in 0..<Int32(count - 1) {
      if let found = pair(left, left + 1) { heap.append(found.order, left) }
    }
    heap.order()
    while let (order, left) = heap.pop() {
      guard starts[Int(left)] >= 0, next[Int(left)] >= 0 else { continue }
      let right = next[Int(left)]
      guard let found = pair(left, right), found.order == order else { continue }
      if keepsCuts { cuts[Int(starts[Int(left)])..<Int(ends[Int(right)])] = Int(starts[Int(right)]) }
      ends[Int(left)] = ends[Int(right)]
      starts[Int(right)] = -1
      next[Int(left)] = next[Int(right)]
      let after = next[Int(left)]
      if after >= 0 {
        previous[Int(after)] = left
        if let found = pair(left, after) { heap.push(found.order, left) }
      }
      let before = previous[Int(left)]
      if before >= 0, let found = pair(before, left) { heap.push(found.order, before) }
    }
  }

  func forEach(_ body: (Range<Int>) -> Void) {
    for index in starts.indices where starts[index] >= 0 { body(Int(starts[index])..<Int(ends[index])) }
  }

  /// Where the two parts of a merged stretch meet.
  func cut(_ range: Range<Int>) -> Int? { cuts[range] }
}
