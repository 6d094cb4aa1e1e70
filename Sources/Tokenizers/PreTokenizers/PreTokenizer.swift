import FermataFiles

/// Cuts a text into the pieces that a model encodes one by one.
protocol PreTokenizer: Sendable {
  func cut(_ text: inout PieceText) throws
}

/// The pre-tokenizers that a tokenizer.json can name.
enum PreTokenizers {
  static let table: [String: @Sendable (Settings) throws -> [any PreTokenizer]] = [
    "Whitespace": { _ in [try WordsAndSigns()] },
    "WhitespaceSplit": { _ in [SetSplit(UnicodeClasses.whitespace, .removed)] },
    "Punctuation": { [SetSplit(UnicodeClasses.bertPunctuation, try SplitBehavior($0, "behavior") ?? .isolated)] },
    "Digits": {
      [SetSplit(UnicodeClasses.numeric, try $0.flag("individual_digits") ?? false ? .isolated : .contiguous)]
    },
    "CharDelimiterSplit": {
      guard let delimiter = try $0.character("delimiter") else { throw $0.error("it has no 'delimiter'") }
      return [SetSplit(ScalarSet(delimiter.value), .removed)]
    },
    "BertPreTokenizer": { _ in
      [SetSplit(UnicodeClasses.whitespace, .removed), SetSplit(UnicodeClasses.bertPunctuation, .isolated)]
    },
    "Split": { [try PatternSplit($0)] },
    "ByteLevel": { try ByteLevelPreTokenizer.make($0) },
    "Metaspace": { [try MetaspacePreTokenizer($0)] },
    "UnicodeScripts": { _ in [ScriptSplit()] },
    "FixedLength": { [FixedLengthSplit(length: max(1, try $0.integer("length") ?? 5))] },
    "Sequence": { try $0.parts("pretokenizers").flatMap { try $0.make(table) } },
  ]

  /// The steps that settings describe, in order; none for `null`.
  static func make(_ value: JSONValue?, place: String) throws -> [any PreTokenizer] {
    guard let value, value != .null else { return [] }
    return try Settings(value: value, place: place + ": pre_tokenizer").make(table)
  }
}
