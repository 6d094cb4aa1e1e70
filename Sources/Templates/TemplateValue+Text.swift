import FermataFiles

extension TemplateValue {
  /// What `{{ value }}` prints: Python's `str`.
  var printed: String {
    switch self {
    case .undefined: ""
    case .text(let text): text
    default: shown
    }
  }

  /// Python's `repr`: as `printed`, with texts in quotes.
  var shown: String {
    switch self {
    case .undefined: "Undefined"
    case .none: "None"
    case .bool(let value): value ? "True" : "False"
    case .integer(let value): String(value)
    case .double(let value): Self.printed(value)
    case .text(let text): Self.quoted(text)
    case .list(let values): "[" + values.map(\.shown).joined(separator: ", ") + "]"
    case .tuple(let values):
      "(" + values.map(\.shown).joined(separator: ", ") + (values.count == 1 ? ",)" : ")")
    case .mapping(let mapping):
      "{" + mapping.pairs.map { $0.key.value.shown + ": " + $0.value.shown }.joined(separator: ", ") + "}"
    case .namespace(let space): "<Namespace of \(space.members.keys.count)>"
    case .function(let function): "<function \(function.name)>"
    case .loop(let loop): "<LoopContext \(loop.index + 1)/\(loop.values.count)>"
    }
  }

  private static func printed(_ value: Double) -> String {
    if value.isNaN { return "nan" }
    if value.isInfinite { return value < 0 ? "-inf" : "inf" }
    // Python writes plain digits up to 10^16.
    if value == value.rounded(), abs(value) < 1e16, let whole = Int(exactly: value) {
      return (value.sign == .minus && whole == 0 ? "-" : "") + "\(whole).0"
    }
    return "\(value)"
  }

  private static func quoted(_ text: String) -> String {
    let quote: Unicode.Scalar = text.unicodeScalars.contains("'") && !text.unicodeScalars.contains("\"") ? "\"" : "'"
    var result = String.UnicodeScalarView([quote])
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result.append(contentsOf: "\\\\".unicodeScalars)
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      case "\r": result.append(contentsOf: "\\r".unicodeScalars)
      case "\t": result.append(contentsOf: "\\t".unicodeScalars)
      case quote: result.append(contentsOf: ["\\", quote])
      default: result.append(scalar)
      }
    }
    result.append(quote)
    return String(result)
  }

  /// JSON as Python's `json.dumps(value, ensure_ascii=False)` writes it: ", " and ": " between parts, or lines indented.
  func json(indent: Int? = nil, sortingKeys: Bool = false, separators: (String, String)? = nil) throws -> String {
    var writer = JSONWriter(indent: indent, sortsKeys: sortingKeys, separators: separators)
    try writer.write(self, level: 0)
    return writer.text
  }

  private struct JSONWriter {
    let indent: Int?
    let sortsKeys: Bool
    let comma: String
    let colon: String
    var text = ""

    init(indent: Int?, sortsKeys: Bool, separators: (String, String)?) {
      self.indent = indent
      self.sortsKeys = sortsKeys
      comma = separators?.0 ?? (indent == nil ? ", " : ",")
      colon = separators?.1 ?? ": "
    }

    mutating func write(_ value: TemplateValue, level: Int) throws {
      switch value {
      case .none: text += "null"
      case .bool(let value): text += value ? "true" : "false"
      case .integer(let value): text += String(value)
      case .double: text += value.shown
      case .text(let string): text += try JSONValue.string(string).text()
      case .list(let values), .tuple(let values):
        try list("[", "]", values, level) { writer, value in try writer.write(value, level: level + 1) }
      case .mapping(let mapping):
        let named = mapping.pairs.map { (key: $0.key.value.printed, value: $0.value) }
        let pairs = sortsKeys ? named.sorted { $0.key < $1.key } : named
        try list("{", "}", pairs, level) { writer, pair in
          writer.text += try JSONValue.string(pair.key).text() + writer.colon
          try writer.write(pair.value, level: level + 1)
        }
      case .undefined, .namespace, .function, .loop: throw TemplateError("\(value.kind) has no JSON form")
      }
    }

    private mutating func list<Element>(
      _ open: String, _ close: String, _ elements: [Element], _ level: Int,
      _ body: (inout JSONWriter, Element) throws -> Void
    ) throws {
      text += open
      for (index, element) in elements.enumerated() {
        if index > 0 { text += comma }
        newLine(level + 1)
        try body(&self, element)
      }
      if !elements.isEmpty { newLine(level) }
      text += close
    }

    private mutating func newLine(_ level: Int) {
      if let indent { text += "\n" + String(repeating: " ", count: indent * level) }
    }
  }
}
