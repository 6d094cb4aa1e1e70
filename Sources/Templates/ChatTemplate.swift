import FermataFiles

/// One message of a conversation.
public struct ChatMessage: Sendable, Codable, Equatable {
  /// "system", "user", "assistant", or whatever else the template knows.
  public var role: String
  /// What is said.
  public var content: String

  /// What somebody says.
  public init(role: String, content: String) {
    self.role = role
    self.content = content
  }
}

/// How a model wants conversations written: a template and the texts of its special tokens.
public struct ChatTemplate: Sendable {
  private let template: Template
  private let specialTokens: [String: String]

  /// - Parameter specialTokens: texts by name, such as "bos_token".
  /// - Throws: `TemplateError` where the template cannot be read.
  public init(_ source: String, specialTokens: [String: String] = [:]) throws {
    template = try Template(source)
    self.specialTokens = specialTokens
  }

  /// The template of a model folder: chat_template.jinja, or what tokenizer_config.json says.
  /// - Throws: `FileError` when the folder has none, `TemplateError` where it cannot be read.
  public init(folder: String) throws {
    let path = PathQuery.join(folder, "tokenizer_config.json")
    let settings = PathQuery.status(path) == nil ? [:] : try StrictJSON.readForeign(path).objectValue ?? [:]
    let file = PathQuery.join(folder, "chat_template.jinja")
    let written = PathQuery.status(file) == nil ? Self.source(settings["chat_template"]) : try Self.text(of: file)
    guard let source = written else {
      throw FileError(
        path: folder, operation: "read the chat template of", kind: .missing,
        reason: "it has neither chat_template.jinja nor a \"chat_template\" in tokenizer_config.json",
        advice: "give one with --template, or use `fermata generate`: the model may not be made for conversations")
    }
    try self.init(source, specialTokens: Self.specialTokens(settings))
  }

  /// The texts of a model's special tokens, by name.
  public static func specialTokens(folder: String) throws -> [String: String] {
    let path = PathQuery.join(folder, "tokenizer_config.json")
    return PathQuery.status(path) == nil ? [:] : specialTokens(try StrictJSON.readForeign(path).objectValue ?? [:])
  }

  /// A template file as text.
  /// - Throws: `FileError` when it is not there, too large or not UTF-8.
  public static func text(of path: String) throws -> String {
    let mapping = try FileMapping(path)
    return try withExtendedLifetime(mapping) {
      guard mapping.bytes.count <= 1 << 20, let text = String(validating: mapping.bytes, as: UTF8.self) else {
        throw FileError.malformed(path, "it is no UTF-8 text of up to 1 MiB")
      }
      return text
    }
  }

  /// A template, or of several named ones the default.
  private static func source(_ value: JSONValue?) -> String? {
    guard let list = value?.arrayValue else { return value?.stringValue }
    return (list.first { $0["name"]?.stringValue == "default" } ?? list.first)?["template"]?.stringValue
  }

  /// "bos_token": "<s>", or the same as an object with "content".
  private static func specialTokens(_ settings: [String: JSONValue]) -> [String: String] {
    settings.filter { $0.key.hasSuffix("_token") }.compactMapValues { $0.stringValue ?? $0["content"]?.stringValue }
  }

  /// The conversation as text.
  /// - Parameters:
  ///   - addingGenerationPrompt: whether the text ends where the assistant is to go on.
  ///   - values: more names for the template, such as "enable_thinking" or "tools".
  /// - Throws: `TemplateError` where the template fails, or refuses the conversation.
  public func render(
    _ messages: [ChatMessage], addingGenerationPrompt: Bool, values: [String: OrderedJSON] = [:]
  ) throws -> String {
    // Templates ask whether these are none.
    var names = TemplateMapping([("tools", .none), ("documents", .none)])
    for (name, text) in specialTokens { names[name] = .text(text) }
    for (name, value) in values { names[name] = TemplateValue(value) }
    names["messages"] = .list(
      messages.map { .mapping(TemplateMapping([("role", .text($0.role)), ("content", .text($0.content))])) })
    names["add_generation_prompt"] = .bool(addingGenerationPrompt)
    return try template.render(names)
  }
}
