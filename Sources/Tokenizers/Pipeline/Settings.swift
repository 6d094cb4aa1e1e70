import FermataFiles

/// The settings of one part of a tokenizer.json, with errors that name the part.
struct Settings {
  let value: JSONValue
  /// The file and the part of it.
  let place: String

  /// What the part is; the key "type".
  func type() throws -> String {
    guard let type = value["type"]?.stringValue else { throw error("it has no 'type'") }
    return type
  }

  func error(_ problem: String) -> TokenizerError { TokenizerError(place, problem) }

  private func found<Result>(_ key: String, _ kind: String, _ read: (JSONValue) -> Result?) throws -> Result? {
    guard let value = value[key], value != .null else { return nil }
    guard let result = read(value) else { throw error("'\(key)' must be \(kind), not \(value.kind)") }
    return result
  }

  func text(_ key: String) throws -> String? { try found(key, "a text", \.stringValue) }
  func flag(_ key: String) throws -> Bool? { try found(key, "true or false", \.boolValue) }
  func integer(_ key: String) throws -> Int? { try found(key, "a whole number", \.intValue) }
  func list(_ key: String) throws -> [JSONValue]? { try found(key, "a list", \.arrayValue) }

  func neededText(_ key: String) throws -> String {
    guard let text = try text(key) else { throw error("it has no '\(key)'") }
    return text
  }

  /// A text of one character.
  func character(_ key: String) throws -> Unicode.Scalar? {
    guard let text = try text(key) else { return nil }
    guard text.unicodeScalars.count == 1, let scalar = text.unicodeScalars.first else {
      throw error("'\(key)' must be one character")
    }
    return scalar
  }

  /// What to look for: `{"String": "…"}` or `{"Regex": "…"}`.
  func pattern() throws -> Pattern {
    guard let pattern = value["pattern"] else { throw error("it has no 'pattern'") }
    if let text = pattern["String"]?.stringValue ?? pattern.stringValue { return try Pattern(literal: text) }
    guard let source = pattern["Regex"]?.stringValue else { throw error("'pattern' is neither a String nor a Regex") }
    return try Pattern(source)
  }

  /// The parts of a sequence.
  func parts(_ key: String) throws -> [Settings] {
    guard let list = try list(key) else { throw error("it has no '\(key)'") }
    return list.enumerated().map { Settings(value: $1, place: "\(place)[\($0)]") }
  }

  /// Makes the part that `type` names.
  func make<Part>(_ table: [String: @Sendable (Settings) throws -> Part]) throws -> Part {
    let type = try type()
    guard let make = table[type] else {
      throw error("the type '\(type)' is not known (\(StrictJSON.unknown(type, among: Array(table.keys))))")
    }
    return try make(self)
  }
}
