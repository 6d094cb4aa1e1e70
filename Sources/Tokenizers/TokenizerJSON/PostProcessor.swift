import FermataFiles

/// What a tokenizer.json puts around a text when special tokens are asked for.
enum PostProcessor {
  private static let table: [String: @Sendable (Settings, inout PipelineTokenizer) throws -> Void] = [
    "TemplateProcessing": { try template($0, &$1) },
    "BertProcessing": { try pair($0, &$1) }, "RobertaProcessing": { try pair($0, &$1) },
    // It only moves offsets.
    "ByteLevel": { _, _ in },
  ]

  static func apply(_ value: JSONValue?, to tokenizer: inout PipelineTokenizer) throws {
    guard let value, value != .null else { return }
    try apply(Settings(value: value, place: tokenizer.place + ": post_processor"), &tokenizer)
  }

  private static func apply(_ settings: Settings, _ tokenizer: inout PipelineTokenizer) throws {
    if try settings.type() == "Sequence" {
      for part in try settings.parts("processors") { try apply(part, &tokenizer) }
      return
    }
    let type = try settings.type()
    guard let apply = table[type] else {
      throw settings.error("the type '\(type)' is not known (\(StrictJSON.unknown(type, among: Array(table.keys))))")
    }
    try apply(settings, &tokenizer)
  }

  /// The pieces of "single" around the sequence A.
  private static func template(_ settings: Settings, _ tokenizer: inout PipelineTokenizer) throws {
    var (before, after): ([Int], [Int]) = ([], [])
    var isPastText = false
    for piece in try settings.list("single") ?? [] {
      if piece["Sequence"] != nil {
        isPastText = true
      } else if let name = piece["SpecialToken"]?["id"]?.stringValue {
        guard let ids = settings.value["special_tokens"]?[name]?["ids"]?.arrayValue?.compactMap(\.intValue) else {
          throw settings.error("'special_tokens' lacks '\(name)'")
        }
        if isPastText { after += ids } else { before += ids }
      } else {
        throw settings.error("a piece of 'single' is neither a Sequence nor a SpecialToken")
      }
    }
    guard isPastText else { throw settings.error("'single' has no place for the text") }
    // Of several processors, the later ones stand outside.
    tokenizer.prefix = before + tokenizer.prefix
    tokenizer.suffix += after
  }

  private static func pair(_ settings: Settings, _ tokenizer: inout PipelineTokenizer) throws {
    func id(_ key: String) throws -> Int {
      guard let list = try settings.list(key), list.count == 2, let id = list[1].intValue else {
        throw settings.error("'\(key)' must be a token and its id")
      }
      return id
    }
    tokenizer.prefix = [try id("cls")] + tokenizer.prefix
    tokenizer.suffix += [try id("sep")]
  }
}
