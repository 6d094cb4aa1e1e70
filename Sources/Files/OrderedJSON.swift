import Foundation

/// A JSON document whose objects keep the order of their members, as Python's do: what chat templates walk over and print.
public indirect enum OrderedJSON: Equatable, Sendable {
  case null
  case bool(Bool)
  /// A number written without fraction or exponent that fits 64 bits.
  case int(Int)
  /// Any other number.
  case double(Double)
  case string(String)
  case array([OrderedJSON])
  /// Members in their order, each name once.
  case object([Member])

  /// A name and its value.
  public struct Member: Equatable, Sendable {
    /// The name.
    public let key: String
    /// What it names.
    public let value: OrderedJSON

    /// A member of an object.
    public init(_ key: String, _ value: OrderedJSON) { (self.key, self.value) = (key, value) }
  }

  /// The same document; members come in the order of their names.
  public init(_ value: JSONValue) {
    switch value {
    case .null: self = .null
    case .bool(let value): self = .bool(value)
    case .int(let value): self = .int(value)
    case .double(let value): self = .double(value)
    case .string(let value): self = .string(value)
    case .array(let values): self = .array(values.map { OrderedJSON($0) })
    case .object(let members):
      self = .object(members.sorted { $0.key < $1.key }.map { Member($0.key, OrderedJSON($0.value)) })
    }
  }

  /// The member of an object with this name; nil for other values and unknown names.
  public subscript(key: String) -> OrderedJSON? {
    if case .object(let members) = self { members.first { $0.key == key }?.value } else { nil }
  }

  /// Reads a document from bytes. `place` names it in errors.
  /// - Throws: `JSONError` for what is no JSON, or holds a name twice.
  public static func parse(_ bytes: some ContiguousBytes, place: String) throws -> OrderedJSON {
    try bytes.withUnsafeBytes { bytes in
      // Checks all of it, so that nothing below meets what is malformed.
      _ = try JSONScanner.parse(bytes, place: place)
      var reader = JSONReader(bytes, place: place)
      return try OrderedJSON(&reader)
    }
  }

  /// Reads a document from a file.
  /// - Throws: `FileError` when it cannot be read, `JSONError` when it is not JSON.
  public static func read(_ path: String) throws -> OrderedJSON {
    let mapping = try FileMapping(path)
    return try withExtendedLifetime(mapping) { try parse(Data(mapping.bytes), place: path) }
  }

  private init(_ reader: inout JSONReader) throws {
    switch try reader.peek() {
    case UInt8(ascii: "{"):
      var members: [Member] = []
      try reader.object { reader, key in
        let name = String(decoding: key, as: UTF8.self)
        members.append(Member(name, try OrderedJSON(&reader)))
      }
      self = .object(members)
    case UInt8(ascii: "["):
      var values: [OrderedJSON] = []
      try reader.array { values.append(try OrderedJSON(&$0)) }
      self = .array(values)
    default: self = OrderedJSON(try reader.value())
    }
  }
}
