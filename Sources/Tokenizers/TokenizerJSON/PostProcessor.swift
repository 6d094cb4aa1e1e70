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
        guard let list = settings.value["special_tokens"]?[name]?["ids"]?.arrayValue else {
          throw settings.error("'special_tokens' lacks '\(name)'")
        }
        let ids = try list.map { try check($0.intValue, settings, tokenizer) }
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
    let before = tokenizer
    func id(_ key: String) throws -> Int {
      guard let list = try settings.list(key), list.count == 2 else {
        throw settings.error("'\(key)' must be a token and its id")
      }
      return try check(list[1].intValue, settings, before)
    }
    tokenizer.prefix = [try id("cls")] + tokenizer.prefix
    tokenizer.suffix += [try id("sep")]
  }

  private static func check(_ id: Int?, _ settings: Settings, _ tokenizer: PipelineTokenizer) throws -> Int {
    guard let id, tokenizer.piece(id) != nil else {
      throw settings.error("it names the token \(id.map { "\($0)" } ?? "without id"), which is not there")
    }
    return id
  }
}
