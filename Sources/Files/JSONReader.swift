/// Reads a JSON document piece by piece, for files whose lists and objects have hundreds of thousands of members: nothing
/// is kept that the caller does not keep. Small parts become a `JSONValue` with `value()`, which reads strictly.
package struct JSONReader {
  private let bytes: UnsafeRawBufferPointer
  private let place: String
  private var offset = 0
  private var depth = 0
  private static let deepest = 128

  /// - Parameter place: names the document in errors.
  package init(_ bytes: UnsafeRawBufferPointer, place: String) {
    self.bytes = bytes
    self.place = place
  }

  /// The error for something that is wrong here.
  package func error(_ problem: String) -> JSONError {
    let line = bytes[..<min(offset, bytes.count)].reduce(1) { $0 + ($1 == UInt8(ascii: "\n") ? 1 : 0) }
    return JSONError(place: place, problem: "\(problem), at line \(line), byte \(offset)")
  }

  @inline(__always)
  private mutating func skipSpace() {
    while offset < bytes.count, bytes[offset] <= 0x20,
      bytes[offset] == 0x20 || bytes[offset] == 0x0A || bytes[offset] == 0x0D || bytes[offset] == 0x09
    {
      offset += 1
    }
  }

  /// The first byte of the next value, which tells its kind.
  package mutating func peek() throws -> UInt8 {
    skipSpace()
    guard offset < bytes.count else { throw error("the document ends where a value should be") }
    return bytes[offset]
  }

  @inline(__always)
  private mutating func take(_ byte: UInt8) -> Bool {
    guard offset < bytes.count, bytes[offset] == byte else { return false }
    offset += 1
    return true
  }

  private mutating func expect(_ byte: UInt8, _ name: String) throws {
    skipSpace()
    guard take(byte) else { throw error("\(name) was expected") }
  }

  private mutating func enter(_ byte: UInt8, _ name: String) throws {
    try expect(byte, name)
    depth += 1
    if depth > Self.deepest { throw error("lists and objects are nested more than \(Self.deepest) deep") }
  }

  /// Calls `member` for every member of an object; it must read or skip the value. The key is valid until it does.
  package mutating func object(_ member: (inout JSONReader, UnsafeRawBufferPointer) throws -> Void) throws {
    try enter(UInt8(ascii: "{"), "an object")
    defer { depth -= 1 }
    skipSpace()
    if take(UInt8(ascii: "}")) { return }
    while true {
      try string { reader, key in
        try reader.expect(UInt8(ascii: ":"), "':'")
        try member(&reader, key)
      }
      skipSpace()
      if take(UInt8(ascii: "}")) { return }
      guard take(UInt8(ascii: ",")) else { throw error("',' or '}' was expected") }
    }
  }

  /// Calls `element` for every element of a list; it must read or skip it.
  package mutating func array(_ element: (inout JSONReader) throws -> Void) throws {
    try enter(UInt8(ascii: "["), "a list")
    defer { depth -= 1 }
    skipSpace()
    if take(UInt8(ascii: "]")) { return }
    while true {
      try element(&self)
      skipSpace()
      if take(UInt8(ascii: "]")) { return }
      guard take(UInt8(ascii: ",")) else { throw error("',' or ']' was expected") }
    }
  }

  /// Reads a text and hands its bytes, which are valid UTF-8, to `body` while they are valid.
  package mutating func string<Result>(
    _ body: (inout JSONReader, UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    try expect(UInt8(ascii: "\""), "a text")
    let start = offset
    var seen: UInt8 = 0
    while offset < bytes.count {
      let byte = bytes[offset]
      if byte == UInt8(ascii: "\"") {
        let text = UnsafeRawBufferPointer(rebasing: bytes[start..<offset])
        offset += 1
        if seen >= 0x80, !UTF8Check.isValid(text) { throw error("a text is not valid UTF-8") }
        return try body(&self, text)
      }
      if byte == UInt8(ascii: "\\") { break }
      if byte < 0x20 { throw error("a control character stands in a text") }
      seen |= byte
      offset += 1
    }
    return try escapedString(from: start, body)
  }

  /// The same for a text with escapes, which is short in practice.
  private mutating func escapedString<Result>(
    from start: Int, _ body: (inout JSONReader, UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    while offset < bytes.count, bytes[offset] != UInt8(ascii: "\"") {
      offset += bytes[offset] == UInt8(ascii: "\\") ? 2 : 1
    }
    guard offset < bytes.count else { throw error("a text has no closing quote") }
    offset += 1
    let quoted = UnsafeRawBufferPointer(rebasing: bytes[start - 1..<offset])
    guard case .string(let text) = try JSONScanner.parse(quoted, place: place) else {
      throw error("a text was expected")
    }
    let copy = Array(text.utf8)
    return try copy.withUnsafeBytes { try body(&self, $0) }
  }

  /// Reads a whole number.
  package mutating func integer() throws -> Int {
    let span = try numberSpan()
    guard let value = Int(String(decoding: span, as: UTF8.self)) else { throw error("a whole number was expected") }
    return value
  }

  /// Reads a finite number.
  package mutating func number() throws -> Double {
    let span = try numberSpan()
    guard let value = Double(String(decoding: span, as: UTF8.self)), value.isFinite else {
      throw error("a number was expected")
    }
    return value
  }

  private mutating func numberSpan() throws -> UnsafeRawBufferPointer {
    skipSpace()
    let start = offset
    while offset < bytes.count, Self.isNumeric(bytes[offset]) { offset += 1 }
    if offset == start { throw error("a number was expected") }
    return UnsafeRawBufferPointer(rebasing: bytes[start..<offset])
  }

  private static func isNumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."),
      UInt8(ascii: "e"), UInt8(ascii: "E"):
      true
    default: false
    }
  }

  /// Reads any value strictly.
  package mutating func value() throws -> JSONValue {
    let span = try rawValue()
    return try JSONScanner.parse(span, place: place)
  }

  /// Passes over a value and returns its bytes, of which only brackets and quotes have been checked.
  package mutating func rawValue() throws -> UnsafeRawBufferPointer {
    skipSpace()
    let start = offset
    var level = 0
    repeat {
      guard offset < bytes.count else { throw error("the document ends inside a value") }
      switch bytes[offset] {
      case UInt8(ascii: "\""): try passString()
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        level += 1
        offset += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        level -= 1
        offset += 1
        if level < 0 { throw error("a value was expected") }
      case UInt8(ascii: ","), UInt8(ascii: ":"), 0x20, 0x09, 0x0A, 0x0D:
        if level == 0 { throw error("a value was expected") }
        offset += 1
      default: try passWord()
      }
    } while level > 0
    return UnsafeRawBufferPointer(rebasing: bytes[start..<offset])
  }

  private mutating func passString() throws {
    offset += 1
    while offset < bytes.count, bytes[offset] != UInt8(ascii: "\"") {
      offset += bytes[offset] == UInt8(ascii: "\\") ? 2 : 1
    }
    guard offset < bytes.count else { throw error("a text has no closing quote") }
    offset += 1
  }

  private mutating func passWord() throws {
    let start = offset
    while offset < bytes.count, Self.isNumeric(bytes[offset]) || bytes[offset] | 0x20 >= UInt8(ascii: "a") {
      if bytes[offset] | 0x20 > UInt8(ascii: "z") { break }
      offset += 1
    }
    if offset == start { throw error("a value was expected") }
  }

  /// Checks that nothing follows.
  package mutating func end() throws {
    skipSpace()
    if offset < bytes.count { throw error("there is something after the end of the document") }
  }
}
