/// A JSON document as a value: what configurations are read into, checked in, and written from.
public enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  /// A number written without fraction or exponent that fits 64 bits.
  case int(Int)
  /// Any other number.
  case double(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  /// "a number", "a list", … for messages.
  public var kind: String {
    switch self {
    case .null: "null"
    case .bool: "true or false"
    case .int: "a whole number"
    case .double: "a number"
    case .string: "a text"
    case .array: "a list"
    case .object: "an object"
    }
  }

  /// The member `key` of an object; nil for other values and unknown keys.
  public subscript(key: String) -> JSONValue? {
    if case .object(let members) = self { members[key] } else { nil }
  }

  /// The truth value; nil for other values.
  public var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// The number where it is whole and fits; nil for other values.
  public var intValue: Int? { if case .int(let value) = self { value } else { nil } }
  /// The number, whole or not.
  public var doubleValue: Double? {
    switch self {
    case .int(let value): Double(value)
    case .double(let value): value
    default: nil
    }
  }
  /// The text; nil for other values.
  public var stringValue: String? { if case .string(let value) = self { value } else { nil } }
  /// The elements of a list; nil for other values.
  public var arrayValue: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  /// The members of an object; nil for other values.
  public var objectValue: [String: JSONValue]? { if case .object(let value) = self { value } else { nil } }
}

extension JSONValue: ExpressibleByNilLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByStringLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(nilLiteral: ()) { self = .null }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(integerLiteral value: Int) { self = .int(value) }
  public init(floatLiteral value: Double) { self = .double(value) }
  public init(stringLiteral value: String) { self = .string(value) }
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  /// Of equal keys the last one counts.
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(Dictionary(elements) { $1 })
  }
}

extension JSONValue: Codable {
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Int.self) {
      self = .int(value)
    } else if let value = try? container.decode(Double.self) {
      self = .double(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSONValue].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: JSONValue].self))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .bool(let value): try container.encode(value)
    case .int(let value): try container.encode(value)
    case .double(let value): try container.encode(value)
    case .string(let value): try container.encode(value)
    case .array(let value): try container.encode(value)
    case .object(let value): try container.encode(value)
    }
  }
}

extension JSONValue {
  /// The document as text with sorted keys, so that equal values give equal files. Numbers read back to the same bits.
  /// - Parameters:
  ///   - indented: one member a line with two spaces a level; otherwise all on one line.
  ///   - namesNonFinite: whether infinities and NaN become objects `{"__float__": "Infinity"}`.
  /// - Throws: `JSONError` for infinities and NaN otherwise, which JSON cannot hold.
  public func text(indented: Bool = false, namesNonFinite: Bool = false) throws -> String {
    if namesNonFinite { return try namingNonFinite.text(indented: indented) }
    var output = ""
    try write(into: &output, level: indented ? 0 : nil)
    return output
  }

  private func write(into output: inout String, level: Int?) throws {
    switch self {
    case .null: output += "null"
    case .bool(let value): output += value ? "true" : "false"
    case .int(let value): output += "\(value)"
    case .double(let value):
      guard value.isFinite else { throw JSONError(place: "JSON", problem: "it cannot hold the number \(value)") }
      output += "\(value)"
    case .string(let value): JSONValue.write(value, into: &output)
    case .array(let values):
      try JSONValue.writeList("[", "]", values, into: &output, level) { value, output, level in
        try value.write(into: &output, level: level)
      }
    case .object(let members):
      let sorted = members.sorted { $0.key < $1.key }
      try JSONValue.writeList("{", "}", sorted, into: &output, level) { member, output, level in
        JSONValue.write(member.key, into: &output)
        output += level == nil ? ":" : ": "
        try member.value.write(into: &output, level: level)
      }
    }
  }

  private static func writeList<Element>(
    _ open: String, _ close: String, _ elements: [Element], into output: inout String, _ level: Int?,
    _ body: (Element, inout String, Int?) throws -> Void
  ) throws {
    let inner = level.map { $0 + 1 }
    output += open
    for (index, element) in elements.enumerated() {
      if index > 0 { output += "," }
      if let inner { output += "\n" + String(repeating: "  ", count: inner) }
      try body(element, &output, inner)
    }
    if let level, !elements.isEmpty { output += "\n" + String(repeating: "  ", count: level) }
    output += close
  }

  private static func write(_ string: String, into output: inout String) {
    output += "\""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"": output += "\\\""
      case "\\": output += "\\\\"
      case "\n": output += "\\n"
      case "\r": output += "\\r"
      case "\t": output += "\\t"
      case "\u{0}"..."\u{1F}":
        let digits = String(scalar.value, radix: 16)
        output += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: output.unicodeScalars.append(scalar)
      }
    }
    output += "\""
  }
}

extension JSONValue {
  /// The same with infinities and NaN as objects that name them.
  var namingNonFinite: JSONValue {
    switch self {
    case .array(let values): .array(values.map(\.namingNonFinite))
    case .object(let members): .object(members.mapValues(\.namingNonFinite))
    case .double(let number) where !number.isFinite:
      ["__float__": .string(number.isNaN ? "NaN" : number < 0 ? "-Infinity" : "Infinity")]
    default: self
    }
  }

  /// The same with every object whose only key is `__float__` replaced by the number that it names.
  var withNamedNumbers: JSONValue {
    switch self {
    case .array(let values): return .array(values.map(\.withNamedNumbers))
    case .object(let members):
      if members.count == 1, case .string(let name)? = members["__float__"], let number = Double(name) {
        return .double(number)
      }
      return .object(members.mapValues(\.withNamedNumbers))
    default: return self
    }
  }
}
