/// A strict reader of JSON (RFC 8259) for files nobody vouches for: valid UTF-8 only, no repeated keys, no
/// trailing commas or comments, nesting bounded, every error with line and column.
struct JSONScanner {
  private let bytes: UnsafeRawBufferPointer
  private let place: String
  private let allowsNonFinite: Bool
  private var offset = 0
  private var depth = 0
  private static let deepest = 128

  /// Reads one document that fills `bytes`, white space aside. `place` names the source in errors.
  /// - Parameter allowsNonFinite: whether bare NaN, Infinity and -Infinity are numbers, as Python writes them.
  /// - Throws: `JSONError`.
  static func parse(
    _ bytes: UnsafeRawBufferPointer, place: String, allowsNonFinite: Bool = false
  ) throws -> JSONValue {
    var scanner = JSONScanner(bytes: bytes, place: place, allowsNonFinite: allowsNonFinite)
    let value = try scanner.value()
    scanner.skipSpace()
    if scanner.offset < bytes.count { throw scanner.error("there is something after the end of the document") }
    return value
  }

  private init(bytes: UnsafeRawBufferPointer, place: String, allowsNonFinite: Bool) {
    self.bytes = bytes
    self.place = place
    self.allowsNonFinite = allowsNonFinite
  }

  private func error(_ problem: String, at position: Int? = nil) -> JSONError {
    let end = min(position ?? offset, bytes.count)
    var line = 1
    var column = 1
    for byte in bytes[..<end] {
      if byte == UInt8(ascii: "\n") {
        line += 1
        column = 1
      } else if byte & 0xC0 != 0x80 {
        column += 1
      }
    }
    return JSONError(place: place, problem: "\(problem), at line \(line), column \(column)")
  }

  private var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { offset += 1 }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard next == UInt8(ascii: character) else { return false }
    offset += 1
    return true
  }

  private mutating func value() throws -> JSONValue {
    skipSpace()
    guard let byte = next else { throw error("the document ends where a value should be") }
    switch byte {
    case UInt8(ascii: "{"): return try nested { scanner in try scanner.object() }
    case UInt8(ascii: "["): return try nested { scanner in try scanner.array() }
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "N") where allowsNonFinite: return try word("NaN", .double(.nan))
    case UInt8(ascii: "I") where allowsNonFinite: return try word("Infinity", .double(.infinity))
    case UInt8(ascii: "-") where allowsNonFinite && offset + 1 < bytes.count && bytes[offset + 1] == UInt8(ascii: "I"):
      return try word("-Infinity", .double(-.infinity))
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    default: throw error("a value was expected")
    }
  }

  private mutating func nested(_ body: (inout JSONScanner) throws -> JSONValue) throws -> JSONValue {
    if depth == Self.deepest { throw error("lists and objects are nested more than \(Self.deepest) deep") }
    depth += 1
    defer { depth -= 1 }
    offset += 1
    return try body(&self)
  }

  private mutating func word(_ word: StaticString, _ value: JSONValue) throws -> JSONValue {
    let end = offset + word.utf8CodeUnitCount
    let matches = word.withUTF8Buffer { expected in end <= bytes.count && bytes[offset..<end].elementsEqual(expected) }
    guard matches else { throw error("a value was expected") }
    offset = end
    return value
  }

  private mutating func array() throws -> JSONValue {
    var values: [JSONValue] = []
    skipSpace()
    if take("]") { return .array(values) }
    while true {
      values.append(try value())
      skipSpace()
      if take("]") { return .array(values) }
      guard take(",") else { throw error("',' or ']' was expected") }
    }
  }

  private mutating func object() throws -> JSONValue {
    var members: [String: JSONValue] = [:]
    skipSpace()
    if take("}") { return .object(members) }
    while true {
      skipSpace()
      let start = offset
      guard next == UInt8(ascii: "\"") else { throw error("a key in quotes was expected") }
      let key = try string()
      skipSpace()
      guard take(":") else { throw error("':' was expected") }
      let member = try value()
      guard members.updateValue(member, forKey: key) == nil else {
        throw error("the key '\(JSONError.shown(key))' is there twice", at: start)
      }
      skipSpace()
      if take("}") { return .object(members) }
      guard take(",") else { throw error("',' or '}' was expected") }
    }
  }

  private mutating func digits() throws {
    let start = offset
    while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { offset += 1 }
    if offset == start { throw error("a digit was expected") }
  }

  private mutating func number() throws -> JSONValue {
    let start = offset
    _ = take("-")
    let first = offset
    try digits()
    if bytes[first] == UInt8(ascii: "0"), offset - first > 1 { throw error("a number begins with 0", at: start) }
    var isWhole = true
    if take(".") {
      isWhole = false
      try digits()
    }
    if take("e") || take("E") {
      isWhole = false
      if !take("+") { _ = take("-") }
      try digits()
    }
    let text = String(decoding: bytes[start..<offset], as: UTF8.self)
    if isWhole, text != "-0", let value = Int(text) { return .int(value) }
    guard let value = Double(text), value.isFinite else {
      throw error("the number \(JSONError.shown(text)) is too large", at: start)
    }
    return .double(value)
  }

  private mutating func string() throws -> String {
    let start = offset
    offset += 1
    var text = ""
    var run = offset
    while let byte = next {
      if byte == UInt8(ascii: "\"") {
        try append(run..<offset, to: &text)
        offset += 1
        return text
      }
      if byte < 0x20 {
        throw error(
          "a control character stands in a text; write it as \\u00\(byte < 16 ? "0" : "")\(String(byte, radix: 16))")
      }
      if byte == UInt8(ascii: "\\") {
        try append(run..<offset, to: &text)
        text.unicodeScalars.append(try escape())
        run = offset
      } else {
        offset += 1
      }
    }
    throw error("a text has no closing quote", at: start)
  }

  private func append(_ range: Range<Int>, to text: inout String) throws {
    if range.isEmpty { return }
    guard let part = String(validating: bytes[range], as: UTF8.self) else {
      throw error("a text is not valid UTF-8", at: range.lowerBound)
    }
    text += part
  }

  private mutating func escape() throws -> Unicode.Scalar {
    let start = offset
    offset += 1
    guard let byte = next else { throw error("the document ends in a text") }
    offset += 1
    switch byte {
    case UInt8(ascii: "\""): return "\""
    case UInt8(ascii: "\\"): return "\\"
    case UInt8(ascii: "/"): return "/"
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"):
      var code = try hexadecimal()
      if (0xD800...0xDBFF).contains(code), take("\\"), take("u") {
        let low = try hexadecimal()
        guard (0xDC00...0xDFFF).contains(low) else { throw error("half a surrogate pair", at: start) }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw error("half a surrogate pair", at: start) }
      return scalar
    default: throw error("an unknown escape in a text", at: start)
    }
  }

  private mutating func hexadecimal() throws -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw error("four hexadecimal digits were expected")
      }
      code = code << 4 | UInt32(digit)
      offset += 1
    }
    return code
  }
}
