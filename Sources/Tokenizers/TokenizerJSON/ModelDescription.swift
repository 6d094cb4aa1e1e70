import FermataFiles

/// The "model" of a tokenizer.json as it is read, before anything is built from it.
struct ModelDescription {
  private let place: String
  private var settings: [String: JSONValue] = [:]
  private var vocabulary = Vocabulary()
  private var scores: [Double?]?
  private var merges = MergeTable(capacity: 16)
  var usesByteAlphabet = false

  private init(place: String) { self.place = place }

  init(_ reader: inout JSONReader, place: String) throws {
    // Merges are pairs of tokens, so they wait should they come before the vocabulary.
    var waiting: UnsafeRawBufferPointer?
    var description = ModelDescription(place: place + ": model")
    var hasVocabulary = false
    try reader.object { reader, key in
      if key.elementsEqual("vocab".utf8) {
        try description.readVocabulary(&reader)
        hasVocabulary = true
      } else if key.elementsEqual("merges".utf8) {
        if hasVocabulary { try description.readMerges(&reader) } else { waiting = try reader.rawValue() }
      } else {
        let name = String(decoding: key, as: UTF8.self)
        description.settings[name] = try reader.value()
      }
    }
    if let waiting {
      var reader = JSONReader(waiting, place: place)
      try description.readMerges(&reader)
    }
    self = description
  }

  private mutating func readVocabulary(_ reader: inout JSONReader) throws {
    let isList = try reader.peek() == UInt8(ascii: "[")
    var vocabulary = Vocabulary(capacity: 1 << 15)
    let place = place
    if !isList {
      try reader.object { reader, token in try vocabulary.insert(token, id: reader.integer(), in: place) }
    } else {
      var scores: [Double?] = []
      try reader.array { reader in
        var count = 0
        try reader.array { reader in
          if count == 0 {
            try reader.string { _, token in try vocabulary.insert(token, id: scores.count, in: place) }
          } else {
            scores.append(try reader.number())
          }
          count += 1
        }
        guard count == 2 else { throw reader.error("a token and its score were expected") }
      }
      self.scores = scores
    }
    self.vocabulary = vocabulary
  }

  /// `"a b"` or `["a", "b"]`.
  private mutating func readMerges(_ reader: inout JSONReader) throws {
    var merges = MergeTable(capacity: vocabulary.count)
    let vocabulary = vocabulary
    let prefixLength = settings["continuing_subword_prefix"]?.stringValue?.utf8.count ?? 0
    var (joined, pair): ([UInt8], [UInt8]) = ([], [])
    func add(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer, _ reader: JSONReader) throws {
      joined.removeAll(keepingCapacity: true)
      joined.append(contentsOf: left)
      joined.append(contentsOf: right.dropFirst(prefixLength))
      guard let first = vocabulary.id(left), let second = vocabulary.id(right), let whole = vocabulary.id(joined) else {
        throw reader.error("a merge names a token that is not in the vocabulary")
      }
      merges.append(Int32(first), Int32(second), becomes: Int32(whole), keepingFirst: false)
    }
    try reader.array { reader in
      if try reader.peek() == UInt8(ascii: "[") {
        pair.removeAll(keepingCapacity: true)
        var (count, middle) = (0, 0)
        try reader.array { reader in
          try reader.string { _, side in pair.append(contentsOf: side) }
          if count == 0 { middle = pair.count }
          count += 1
        }
        guard count == 2 else { throw reader.error("a merge of two tokens was expected") }
        try pair.withUnsafeBytes { both in
          try add(
            UnsafeRawBufferPointer(rebasing: both[..<middle]), UnsafeRawBufferPointer(rebasing: both[middle...]), reader
          )
        }
      } else {
        try reader.string { reader, text in
          guard let space = text.firstIndex(of: UInt8(ascii: " ")),
            !text[(space + 1)...].contains(UInt8(ascii: " "))
          else { throw reader.error("a merge of two tokens with a space between was expected") }
          try add(
            UnsafeRawBufferPointer(rebasing: text[..<space]), UnsafeRawBufferPointer(rebasing: text[(space + 1)...]),
            reader)
        }
      }
    }
    self.merges = merges
  }

  // MARK: Building

  /// The kind; older files do not say it.
  private var kind: String {
    if let type = settings["type"]?.stringValue { return type }
    if scores != nil { return "Unigram" }
    if settings["max_input_chars_per_word"] != nil { return "WordPiece" }
    return merges.count > 0 || settings["merges"] != nil ? "BPE" : "WordLevel"
  }

  private var parts: Settings { Settings(value: .object(settings), place: place) }

  private func endings() throws -> (prefix: String, suffix: String) {
    (try parts.text("continuing_subword_prefix") ?? "", try parts.text("end_of_word_suffix") ?? "")
  }

  /// Whether it can be given bytes where the file's pieces are written in the byte alphabet.
  var canTakeBytes: Bool {
    guard kind == "BPE", let endings = try? endings() else { return false }
    return endings == ("", "") && settings["byte_fallback"]?.boolValue != true
  }

  /// Whether pieces may be cut where no token reaches across.
  var mayBeCut: Bool {
    guard kind == "BPE", let endings = try? endings() else { return false }
    return endings == ("", "") && settings["ignore_merges"]?.boolValue != true
  }

  private static let kinds: [String: @Sendable (ModelDescription) throws -> any TokenModel] = [
    "BPE": { try $0.bytePair() }, "Unigram": { try $0.unigram() }, "WordPiece": { try $0.wordPiece() },
    "WordLevel": { try $0.wordLevel() },
  ]

  func build() throws -> any TokenModel {
    guard let make = Self.kinds[kind] else {
      throw parts.error("the type '\(kind)' is not known (\(StrictJSON.unknown(kind, among: Array(Self.kinds.keys))))")
    }
    return try make(self)
  }

  /// The id of the token for the unknown; nil when there is none.
  private func unknown() throws -> Int? { try parts.text("unk_token").flatMap { vocabulary.id($0) } }

  private func bytePair() throws -> any TokenModel {
    let endings = try endings()
    if scores != nil { throw parts.error("'vocab' must be an object") }
    if let name = try parts.text("unk_token"), vocabulary.id(name) == nil {
      throw parts.error("the token '\(name)' for the unknown is not in the vocabulary")
    }
    let options = BytePairModel.Options(
      unknown: try unknown(), fusesUnknown: try parts.flag("fuse_unk") ?? false,
      fallsBackToBytes: try parts.flag("byte_fallback") ?? false,
      ignoresMerges: try parts.flag("ignore_merges") ?? false, continuingPrefix: Array(endings.prefix.utf8),
      endSuffix: Array(endings.suffix.utf8), usesByteAlphabet: usesByteAlphabet)
    return BytePairModel(vocabulary, merges, options)
  }

  private func unigram() throws -> any TokenModel {
    guard let scores else { throw parts.error("'vocab' must be a list of tokens and scores") }
    let unknown = try parts.integer("unk_id")
    if let unknown, !scores.indices.contains(unknown) { throw parts.error("'unk_id' is outside the vocabulary") }
    return UnigramModel(
      vocabulary, scores: scores, unknown: unknown, fallsBackToBytes: try parts.flag("byte_fallback") ?? false)
  }

  private func wordPiece() throws -> any TokenModel {
    WordPieceModel(
      vocabulary, unknown: vocabulary.id(try parts.text("unk_token") ?? "[UNK]"),
      continuingPrefix: Array((try parts.text("continuing_subword_prefix") ?? "##").utf8),
      longestWord: try parts.integer("max_input_chars_per_word") ?? 100)
  }

  private func wordLevel() throws -> any TokenModel {
    WordLevelModel(vocabulary: vocabulary, unknown: vocabulary.id(try parts.text("unk_token") ?? "<unk>"))
  }
}
