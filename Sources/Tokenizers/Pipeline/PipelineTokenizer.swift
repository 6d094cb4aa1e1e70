/// A tokenizer put together of parts: added tokens, normalizer, pre-tokenizers, model, decoder.
struct PipelineTokenizer: Tokenizer {
  var place: String
  var model: any TokenModel
  var addedTokens = AddedTokens()
  var normalizer: (any Normalizer)?
  var preTokenizers: [any PreTokenizer] = []
  var decoder = DecoderChain()
  /// Ids around a text when special tokens are asked for.
  var prefix: [Int] = []
  var suffix: [Int] = []
  var beginToken: Int?
  var endTokens: Set<Int> = []
  var parsesSpecialTokensByDefault = true
  /// Whether the model may be given short pieces of a long one: see `MetaspaceCuts`.
  var cutsBeforeMark = false

  var vocabularySize: Int { max(model.vocabulary.size, addedTokens.idLimit) }

  func encode(_ text: [UInt8], addingSpecialTokens: Bool, parsingSpecialTokens: Bool) throws -> [Int] {
    var ids = addingSpecialTokens ? prefix : []
    ids.reserveCapacity(text.count / 3 + 8)
    var scratch = ModelScratch()
    for (id, range) in addedTokens.raw.segments(text, includingSpecial: parsingSpecialTokens) {
      if let id {
        ids.append(id)
        continue
      }
      let given = range.count == text.count ? text : Array(text[range])
      let normalized = try normalizer?.normalize(given) ?? given
      let isOrigin = range.lowerBound == 0
      for (id, range) in addedTokens.normalized.segments(normalized, includingSpecial: parsingSpecialTokens) {
        if let id {
          ids.append(id)
        } else {
          let whole = range.count == normalized.count
          let part = PieceText(
            whole ? normalized : Array(normalized[range]), beginsAtOrigin: isOrigin && range.lowerBound == 0)
          try encode(part, &scratch, into: &ids)
        }
      }
    }
    return addingSpecialTokens ? ids + suffix : ids
  }

  private func encode(_ text: PieceText, _ scratch: inout ModelScratch, into ids: inout [Int]) throws {
    var text = text
    for step in preTokenizers { try step.cut(&text) }
    // Places in a text are counted in 32 bits.
    guard text.bytes.count < Int32.max else {
      throw TokenizerError(place, "a text of \(text.bytes.count) bytes is too long", advice: "encode it in parts")
    }
    if cutsBeforeMark { MetaspaceCuts.cut(&text) }
    try text.bytes.withUnsafeBufferPointer { buffer in
      for piece in text.pieces {
        try model.encodeCached(UnsafeBufferPointer(rebasing: buffer[piece]), &scratch, into: &ids)
      }
    }
  }

  func makeDecoder(skippingSpecialTokens: Bool) -> any TokenDecoder {
    PipelineDecoder(tokenizer: self, skipsSpecialTokens: skippingSpecialTokens)
  }

  /// What a token hands to the decoder.
  func piece(_ id: Int) -> [UInt8]? { addedTokens.spelling(id) ?? model.vocabulary.token(id) }

  func token(_ id: Int) -> String? {
    (addedTokens.tokens[id]?.content ?? model.vocabulary.token(id)).map { String(decoding: $0, as: UTF8.self) }
  }

  func id(of token: String) -> Int? {
    let bytes = Array(token.utf8)
    return addedTokens.id(bytes) ?? model.vocabulary.id(bytes)
  }
}

/// Feeds tokens through the steps of a decoder.
private struct PipelineDecoder: TokenDecoder {
  let tokenizer: PipelineTokenizer
  let skipsSpecialTokens: Bool
  private var steps: [any DecodingStep]
  private var waiting: [[UInt8]] = []
  private var made: [[UInt8]] = []

  init(tokenizer: PipelineTokenizer, skipsSpecialTokens: Bool) {
    self.tokenizer = tokenizer
    self.skipsSpecialTokens = skipsSpecialTokens
    steps = tokenizer.decoder.steps
  }

  mutating func push(_ id: Int) throws -> [UInt8] {
    var output: [UInt8] = []
    try push(id, into: &output)
    return output
  }

  mutating func push(_ id: Int, into bytes: inout [UInt8]) throws {
    guard let piece = tokenizer.piece(id) else {
      // Vocabularies have gaps, which decode to nothing; what is past the end is an error.
      guard id >= 0, id < tokenizer.vocabularySize else {
        throw TokenizerError.unknownID(id, tokenizer.place, size: tokenizer.vocabularySize)
      }
      return
    }
    if skipsSpecialTokens, tokenizer.addedTokens.isSpecial(piece) { return }
    waiting.append(piece)
    try run(from: 0, into: &bytes)
  }

  /// Takes the pieces that wait through the steps from one on.
  private mutating func run(from first: Int, into bytes: inout [UInt8]) throws {
    for index in first..<max(first, steps.count) {
      made.removeAll(keepingCapacity: true)
      for piece in waiting { try steps[index].push(piece, into: &made) }
      swap(&waiting, &made)
    }
    for piece in waiting { bytes += piece }
    waiting.removeAll(keepingCapacity: true)
  }

  mutating func finish() throws -> [UInt8] {
    defer { steps = tokenizer.decoder.steps }
    var bytes: [UInt8] = []
    for index in steps.indices {
      try steps[index].finish(into: &waiting)
      try run(from: index + 1, into: &bytes)
    }
    return bytes
  }
}

/// Cuts long pieces where no token reaches across: before a mark (▁) that follows something else, where no token of the
/// vocabulary has one inside. Each part then merges as it would have in the whole, and is found again in the cache.
enum MetaspaceCuts {
  private static let mark = Array("▁".utf8)

  /// Whether a vocabulary allows it.
  static func isExact(for vocabulary: Vocabulary) -> Bool {
    guard vocabulary.id(mark) != nil else { return false }
    var isExact = true
    vocabulary.forEach { token, _ in
      guard token.count > 3 else { return }
      for index in 1..<token.count - 2 where token[index] == mark[0] {
        if isMark(token, index), !(index >= 3 && isMark(token, index - 3)) { isExact = false }
      }
    }
    return isExact
  }

  private static func isMark(_ bytes: UnsafeRawBufferPointer, _ index: Int) -> Bool {
    bytes[index] == mark[0] && bytes[index + 1] == mark[1] && bytes[index + 2] == mark[2]
  }

  static func cut(_ text: inout PieceText) {
    var pieces: [Range<Int>] = []
    pieces.reserveCapacity(text.bytes.count / 8 + text.pieces.count)
    text.bytes.withUnsafeBytes { bytes in
      for piece in text.pieces {
        var start = piece.lowerBound
        var index = start + 1
        while index + 2 < piece.upperBound {
          if bytes[index] == mark[0], isMark(bytes, index), !(index >= start + 3 && isMark(bytes, index - 3)) {
            pieces.append(start..<index)
            start = index
          }
          index += 1
        }
        pieces.append(start..<piece.upperBound)
      }
    }
    text.pieces = pieces
  }
}
