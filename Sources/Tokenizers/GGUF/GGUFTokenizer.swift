import FermataFiles

/// Reads the vocabulary of a GGUF file as a tokenizer: `tokenizer.ggml.model` says what kind it is.
enum GGUFTokenizer {
  private static let models: [String: @Sendable (GGUFVocabulary) throws -> any Tokenizer] = [
    "llama": { try sentencePieces($0) }, "gpt2": { try bytePairs($0) }, "bert": { try wordPieces($0) },
    "t5": { try unigram($0) }, "rwkv": { try longestMatches($0) },
  ]

  static func load(_ path: String) throws -> any Tokenizer {
    let file = try GGUFFile(path)
    guard let name = file.text("tokenizer.ggml.model") else {
      throw TokenizerError(path, "it has no tokenizer.ggml.model", advice: "this file holds no tokenizer")
    }
    guard let make = models[name] else {
      throw TokenizerError(
        path, "its tokenizer model '\(name)' is not known", advice: StrictJSON.unknown(name, among: Array(models.keys)))
    }
    return try make(try GGUFVocabulary(file))
  }

  private static func bytePairs(_ source: GGUFVocabulary) throws -> any Tokenizer {
    let name = source.file.text("tokenizer.ggml.pre") ?? "default"
    guard let kind = PreTokenizerKind.named(name) else {
      throw TokenizerError(
        source.file.path, "its tokenizer.ggml.pre '\(name)' is not known",
        advice: StrictJSON.unknown(name, among: PreTokenizerKind.names))
    }
    let model = BytePairModel(
      source.vocabulary, try merges(source),
      BytePairModel.Options(ignoresMerges: kind.ignoresMerges, usesByteAlphabet: true))
    var tokenizer = try source.tokenizer(model, addsBegin: kind.addsBegin, addsEnd: false)
    tokenizer.preTokenizers = try kind.patterns.map { PatternSplit(try Pattern($0)) }
    tokenizer.decoder = DecoderChain(steps: [ByteLevelDecoding()])
    return tokenizer
  }

  /// The merges, each two tokens with a space between. Of merges that name what is no token, none can happen.
  private static func merges(_ source: GGUFVocabulary) throws -> MergeTable {
    var merges = MergeTable(capacity: source.file.list("tokenizer.ggml.merges")?.count ?? 0)
    let vocabulary = source.vocabulary
    var joined: [UInt8] = []
    try source.file.forEachText("tokenizer.ggml.merges") { text, _ in
      guard let space = text.dropFirst().firstIndex(of: UInt8(ascii: " ")) else { return merges.skip() }
      let left = UnsafeRawBufferPointer(rebasing: text[..<space])
      let right = UnsafeRawBufferPointer(rebasing: text[(space + 1)...])
      joined.removeAll(keepingCapacity: true)
      joined.append(contentsOf: left)
      joined.append(contentsOf: right)
      guard let first = vocabulary.id(left), let second = vocabulary.id(right), let whole = vocabulary.id(joined) else {
        return merges.skip()
      }
      merges.append(Int32(first), Int32(second), becomes: Int32(whole), keepingFirst: true)
    }
    return merges
  }

  /// Pieces as SentencePiece's, of which the file does not keep the normalization: spaces become marks and one is put in
  /// front of what stands at the beginning or behind a special token.
  private static func sentencePieces(_ source: GGUFVocabulary) throws -> any Tokenizer {
    let parts = try parts(source)
    let model = parts.scoredMerges(fallsBackToBytes: true)
    var tokenizer = try source.tokenizer(model, addsBegin: true, addsEnd: false)
    let addsSpace = source.flag("add_space_prefix", or: true)
    tokenizer.normalizer = SpacesToMarks(addsSpace: addsSpace)
    tokenizer.cutsBeforeMark = MetaspaceCuts.isExact(for: model.vocabulary)
    tokenizer.decoder = decoder(source, parts, dropsFirstSpace: addsSpace)
    tokenizer.beginToken = source.special("bos", or: 1)
    if source.flag("add_bos_token", or: true), let begin = tokenizer.beginToken { tokenizer.prefix = [begin] }
    return tokenizer
  }

  private static func decoder(
    _ source: GGUFVocabulary, _ parts: SentencePieceParts, dropsFirstSpace: Bool
  ) -> DecoderChain {
    DecoderChain(steps: [
      SentencePieceDecoding(
        unknown: source.vocabulary.token(parts.unknown) ?? [], unknownText: Array(" \u{2047} ".utf8),
        dropsFirstSpace: dropsFirstSpace, dropsAllFirstSpaces: false)
    ])
  }

  private static func parts(_ source: GGUFVocabulary) throws -> SentencePieceParts {
    var pieces = [SentencePieceFile.Piece](repeating: SentencePieceFile.Piece(), count: source.vocabulary.size)
    source.vocabulary.forEach { token, id in
      pieces[id].text = Array(token)
      pieces[id].kind = source.kind(id)
      if source.scores.indices.contains(id), source.scores[id].isFinite { pieces[id].score = source.scores[id] }
    }
    return try SentencePieceParts(
      pieces, place: source.file.path, unknown: source.special("unknown", or: 0))
  }

  private static func unigram(_ source: GGUFVocabulary) throws -> any Tokenizer {
    let parts = try parts(source)
    let model = parts.unigram(fallsBackToBytes: false, sumsInSinglePrecision: false)
    var tokenizer = try source.tokenizer(model, addsBegin: false, addsEnd: true)
    let map = source.file.byteList("tokenizer.ggml.precompiled_charsmap") ?? []
    var normalizer = SentencePieceNormalizer(map: map.isEmpty ? nil : try CharacterMap(map, place: source.file.path))
    normalizer.fixed = parts.userDefined
    normalizer.addsDummyPrefix = source.flag("add_space_prefix", or: false)
    normalizer.removesExtraSpaces = source.flag("remove_extra_whitespaces", or: false)
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoder(source, parts, dropsFirstSpace: normalizer.addsDummyPrefix)
    return tokenizer
  }

  /// BERT's words, with a mark before each; the file writes continuations without `##` and beginnings with the mark.
  private static func wordPieces(_ source: GGUFVocabulary) throws -> any Tokenizer {
    let unknown = source.special("unknown", or: source.vocabulary.id("[UNK]") ?? 100)
    let model = WordPieceModel(source.vocabulary, unknown: unknown, continuingPrefix: [], longestWord: .max)
    var tokenizer = try source.tokenizer(model, addsBegin: false, addsEnd: false)
    var normalizer = BertNormalizer()
    normalizer.lowercases = source.flag("normalizer.lowercase", or: true)
    normalizer.stripsAccents = source.flag("normalizer.strip_accents", or: normalizer.lowercases)
    tokenizer.normalizer = normalizer
    tokenizer.preTokenizers = [
      SetSplit(UnicodeClasses.whitespace, .removed), SetSplit(UnicodeClasses.bertPunctuation, .isolated), LeadingMark(),
    ]
    tokenizer.decoder = DecoderChain(steps: [MetaspaceDecoding(mark: Array("▁".utf8), dropsFirst: true)])
    let begin = source.special("cls", or: source.special("bos", or: 101))
    let end = source.special("seperator", or: source.special("separator", or: 102))
    (tokenizer.beginToken, tokenizer.prefix, tokenizer.suffix) = (
      begin, begin.map { [$0] } ?? [], end.map { [$0] } ?? []
    )
    return tokenizer
  }

  /// RWKV's: always the longest token that the text begins with. Tokens are bytes, with escapes in the file.
  private static func longestMatches(_ source: GGUFVocabulary) throws -> any Tokenizer {
    var vocabulary = Vocabulary(capacity: source.vocabulary.count)
    try source.vocabulary.forEach { token, id in
      try Escapes.bytes(Array(token)).withUnsafeBytes { try vocabulary.insert($0, id: id, in: source.file.path) }
    }
    let model = WordPieceModel(vocabulary, unknown: source.special("unknown"), continuingPrefix: [], longestWord: .max)
    return try source.tokenizer(model, addsBegin: false, addsEnd: false)
  }
}

/// Spaces as marks (▁), with one in front.
private struct SpacesToMarks: Normalizer {
  let addsSpace: Bool
  private static let mark = Array("▁".utf8)

  func normalize(_ text: [UInt8]) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(text.count + text.count / 2 + 3)
    if addsSpace, !text.isEmpty { output += Self.mark }
    for byte in text {
      if byte == UInt8(ascii: " ") { output += Self.mark } else { output.append(byte) }
    }
    return output
  }
}

/// A mark (▁) in front of every piece.
private struct LeadingMark: PreTokenizer {
  func cut(_ text: inout PieceText) {
    let mark = Array("▁".utf8)
    text.rewrite { piece, _, output in
      output += mark
      output += piece
    }
  }
}

/// Bytes written with backslashes: `\n`, `\t`, `\r`, `\xHH`, and any other character for itself.
enum Escapes {
  static func bytes(_ text: [UInt8]) -> [UInt8] {
    var output: [UInt8] = []
    var index = 0
    while index < text.count {
      guard text[index] == UInt8(ascii: "\\"), index + 1 < text.count else {
        output.append(text[index])
        index += 1
        continue
      }
      let letter = text[index + 1]
      if letter == UInt8(ascii: "x"), index + 3 < text.count,
        let byte = UInt8(String(decoding: text[index + 2...index + 3], as: UTF8.self), radix: 16)
      {
        output.append(byte)
        index += 4
        continue
      }
      let known: [UInt8: UInt8] = [UInt8(ascii: "n"): 10, UInt8(ascii: "t"): 9, UInt8(ascii: "r"): 13]
      output.append(known[letter] ?? letter)
      index += 2
    }
    return output
  }
}
