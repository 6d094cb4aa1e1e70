import FermataFiles

/// Reads a SentencePiece `.model` file (Kudo & Richardson 2018): unigram or byte-pair pieces, and the file's own
/// normalization. Control pieces are never found in text.
enum SentencePieceTokenizer {
  static func load(_ path: String) throws -> any Tokenizer {
    let file = try SentencePieceFile(path)
    let parts = try SentencePieceParts(file.pieces, place: path)
    var normalizer = SentencePieceNormalizer(
      map: file.characterMap.isEmpty ? nil : try CharacterMap(file.characterMap, place: path))
    normalizer.fixed = parts.userDefined
    normalizer.addsDummyPrefix = file.addsDummyPrefix
    normalizer.removesExtraSpaces = file.removesExtraSpaces
    normalizer.escapesSpaces = file.escapesSpaces
    normalizer.treatsSpaceAsSuffix = file.treatsSpaceAsSuffix
    let model: any TokenModel
    switch file.modelType {
    case 1: model = parts.unigram(fallsBackToBytes: file.fallsBackToBytes)
    case 2: model = parts.scoredMerges(fallsBackToBytes: file.fallsBackToBytes)
    default:
      throw TokenizerError(
        path, "its model type is \(file.modelType)", advice: "unigram (1) and byte pairs (2) are read")
    }
    var tokenizer = PipelineTokenizer(place: path, model: model)
    tokenizer.normalizer = normalizer
    tokenizer.cutsBeforeMark = file.modelType == 2 && MetaspaceCuts.isExact(for: model.vocabulary)
    tokenizer.parsesSpecialTokensByDefault = false
    tokenizer.addedTokens = try AddedTokens(parts.control, normalizer: nil)
    tokenizer.decoder = DecoderChain(steps: [
      SentencePieceDecoding(
        unknown: file.pieces[parts.unknown].text, unknownText: Array(file.unknownText.utf8),
        dropsFirstSpace: file.addsDummyPrefix || file.removesExtraSpaces,
        dropsAllFirstSpaces: file.removesExtraSpaces)
    ])
    tokenizer.beginToken = tokenizer.id(of: "<s>")
    tokenizer.endTokens = Set(["</s>"].compactMap { tokenizer.id(of: $0) })
    tokenizer.prefix = tokenizer.beginToken.map { [$0] } ?? []
    return tokenizer
  }
}

/// Pieces sorted by what they are for.
struct SentencePieceParts {
  let vocabulary: Vocabulary
  let unknown: Int
  let control: [AddedToken]
  let userDefined: PieceTrie
  private let pieces: [SentencePieceFile.Piece]

  /// - Throws: `TokenizerError` when there is no piece for the unknown.
  init(_ pieces: [SentencePieceFile.Piece], place: String, unknown stated: Int? = nil) throws {
    var vocabulary = Vocabulary(capacity: pieces.count)
    var userDefined = PieceTrie()
    for (id, piece) in pieces.enumerated() {
      try piece.text.withUnsafeBytes { try vocabulary.insert($0, id: id, in: place) }
      if piece.kind == .userDefined { userDefined.insert(piece.text, number: id) }
    }
    guard let unknown = pieces.firstIndex(where: { $0.kind == .unknown }) ?? stated else {
      throw TokenizerError(place, "it has no piece for the unknown")
    }
    self.vocabulary = vocabulary
    self.unknown = unknown
    self.userDefined = userDefined
    control = pieces.enumerated().compactMap { id, piece in
      piece.kind == .control ? AddedToken(id: id, content: piece.text, isSpecial: true) : nil
    }
    self.pieces = pieces
  }

  /// - Parameter sumsInSinglePrecision: as SentencePiece itself sums scores; a user-defined piece then scores by its length.
  func unigram(fallsBackToBytes: Bool, sumsInSinglePrecision: Bool = true) -> any TokenModel {
    let normal = pieces.filter { $0.kind == .normal }.map(\.score)
    // SentencePiece looks for the best score from the least positive number up, which no logarithm of a probability passes.
    let (least, most) = (normal.min() ?? 0, max(normal.max() ?? 0, .leastNormalMagnitude))
    let scores: [Double?] = pieces.map { piece in
      switch piece.kind {
      case .normal: Double(piece.score)
      // Better than any way to cut it.
      case .userDefined: sumsInSinglePrecision ? Double(Float(piece.text.count) * most - 0.1) : 0
      case .unused: sumsInSinglePrecision ? nil : Double(piece.score)
      case .unknown, .control, .byte: nil
      }
    }
    return UnigramModel(
      vocabulary, scores: scores, unknown: unknown, fallsBackToBytes: fallsBackToBytes, leastScore: Double(least),
      sumsInSinglePrecision: sumsInSinglePrecision)
  }

  func scoredMerges(fallsBackToBytes: Bool) -> any TokenModel {
    var mergeable = Vocabulary(capacity: pieces.count)
    var unused: Set<Int> = []
    for (id, piece) in pieces.enumerated() {
      switch piece.kind {
      case .normal, .userDefined, .unused:
        try? piece.text.withUnsafeBytes { try mergeable.insert($0, id: id, in: "") }
        if piece.kind == .unused { unused.insert(id) }
      case .unknown, .control, .byte: break
      }
    }
    return ScoredMergeModel(
      vocabulary, mergeable: mergeable, scores: pieces.map(\.score), unused: unused, unknown: unknown,
      fallsBackToBytes: fallsBackToBytes, frozen: userDefined)
  }
}

/// Pieces back to text: marks become spaces, bytes themselves; the space that encoding put in front goes, and all spaces
/// in front where encoding takes them away.
struct SentencePieceDecoding: DecodingStep {
  let unknown: [UInt8]
  let unknownText: [UInt8]
  let dropsFirstSpace: Bool
  let dropsAllFirstSpaces: Bool
  private var isAtStart = true

  init(unknown: [UInt8], unknownText: [UInt8], dropsFirstSpace: Bool, dropsAllFirstSpaces: Bool) {
    self.unknown = unknown
    self.unknownText = unknownText
    self.dropsFirstSpace = dropsFirstSpace
    self.dropsAllFirstSpaces = dropsAllFirstSpaces
  }

  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) {
    if let byte = ByteTokens.byte(piece) {
      isAtStart = false
      return output.append([byte])
    }
    if piece == unknown {
      isAtStart = false
      return output.append(unknownText)
    }
    let mark = Array("▁".utf8)
    let isDropped = isAtStart && dropsFirstSpace && piece.starts(with: mark)
    let text = (isDropped ? Array(piece[mark.count...]) : piece).replacing(mark, with: [UInt8(ascii: " ")])
    isAtStart = isAtStart && text.isEmpty && (dropsAllFirstSpaces || !isDropped)
    output.append(text)
  }
}
