/// The unigram model (Kudo 2018): of all ways to cut a text into tokens, the one whose scores sum highest.
struct UnigramModel: TokenModel {
  let vocabulary: Vocabulary
  private let scores: [Double]
  private let trie: PieceTrie
  private let unknown: Int?
  private let unknownScore: Double
  private let byteTokens: [Int]?
  private let sumsInSinglePrecision: Bool
  /// What unknown characters cost beyond the poorest token.
  private static let unknownPenalty = 10.0

  /// - Parameters:
  ///   - scores: of all ids. Nil keeps a token out of the search: control tokens, byte tokens.
  ///   - leastScore: the score that an unknown character is measured from; nil takes the poorest of `scores`.
  ///   - sumsInSinglePrecision: whether sums are rounded as SentencePiece rounds them, which decides between near equals.
  init(
    _ vocabulary: Vocabulary, scores: [Double?], unknown: Int?, fallsBackToBytes: Bool, leastScore: Double? = nil,
    sumsInSinglePrecision: Bool = false
  ) {
    self.sumsInSinglePrecision = sumsInSinglePrecision
    self.vocabulary = vocabulary
    self.unknown = unknown
    self.scores = scores.map { $0 ?? 0 }
    unknownScore = (leastScore ?? scores.reduce(.infinity) { min($0, $1 ?? .infinity) }) - Self.unknownPenalty
    byteTokens = fallsBackToBytes ? ByteTokens.find(in: vocabulary) : nil
    var trie = PieceTrie()
    vocabulary.forEach { token, id in
      if scores.indices.contains(id), scores[id] != nil { trie.insert(token, number: id) }
    }
    self.trie = trie
  }

  /// The best way to reach a place in the text.
  private struct Step {
    var score = -Double.infinity
    var start = -1
    /// -1 for an unknown character.
    var id = -1
  }

  @inline(__always)
  private func sum(_ score: Double, _ base: Double) -> Double {
    sumsInSinglePrecision ? Double(Float(score) + Float(base)) : score + base
  }

  func encode(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: inout ModelScratch, into ids: inout [Int]) throws {
    let steps = bestSteps(piece)
    var path: [(id: Int, range: Range<Int>)] = []
    var end = piece.count
    while end > 0 {
      let step = steps[end]
      path.append((step.id, step.start..<end))
      end = step.start
    }
    try append(path.reversed(), piece, into: &ids)
  }

  private func bestSteps(_ piece: UnsafeBufferPointer<UInt8>) -> [Step] {
    var steps = [Step](repeating: Step(), count: piece.count + 1)
    steps[0].score = 0
    guard let bytes = piece.baseAddress else { return steps }
    var start = 0
    while start < piece.count {
      let (_, length) = UTF8Scalar.decode(bytes, start, piece.count)
      let base = steps[start].score
      var hasSingle = false
      var node = 0
      var end = start
      while end < piece.count, let next = trie.child(of: node, bytes[end]) {
        node = next
        end += 1
        guard let id = trie.number(at: node) else { continue }
        let score = sum(scores[id], base)
        if steps[end].start < 0 || score > steps[end].score { steps[end] = Step(score: score, start: start, id: id) }
        if end - start == length { hasSingle = true }
      }
      if !hasSingle {
        let end = start + length
        let score = sum(unknownScore, base)
        if steps[end].start < 0 || score > steps[end].score { steps[end] = Step(score: score, start: start, id: -1) }
      }
      start += length
    }
    return steps
  }

  /// Appends ids; unknown characters that follow each other are one.
  private func append(
    _ path: [(id: Int, range: Range<Int>)], _ piece: UnsafeBufferPointer<UInt8>, into ids: inout [Int]
  ) throws {
    var index = 0
    while index < path.count {
      let isUnknown = path[index].id < 0 || path[index].id == unknown
      guard isUnknown else {
        ids.append(path[index].id)
        index += 1
        continue
      }
      let start = path[index].range.lowerBound
      while index + 1 < path.count, path[index + 1].id < 0 || path[index + 1].id == unknown { index += 1 }
      let text = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(piece)[start..<path[index].range.upperBound])
      index += 1
      if let id = vocabulary.id(text) {
        ids.append(id)
      } else if let byteTokens {
        for byte in text { ids.append(byteTokens[Int(byte)]) }
      } else if let unknown {
        ids.append(unknown)
      } else {
        throw TokenizerError(
          "unigram", "the text has a character that no token stands for, and there is no token for the unknown")
      }
    }
  }
}
