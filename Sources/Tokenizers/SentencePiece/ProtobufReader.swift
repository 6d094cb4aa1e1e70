/// Reads a message of Google's protocol buffers field by field, checking every length.
struct ProtobufReader {
  enum Value {
    case number(UInt64)
    case bytes(UnsafeRawBufferPointer)
    case fixed32(UInt32)
    case fixed64(UInt64)

    var bytes: UnsafeRawBufferPointer? { if case .bytes(let bytes) = self { bytes } else { nil } }
    var integer: Int? { if case .number(let value) = self { Int(truncatingIfNeeded: value) } else { nil } }
    var flag: Bool? { if case .number(let value) = self { value != 0 } else { nil } }
    var float: Float? { if case .fixed32(let bits) = self { Float(bitPattern: bits) } else { nil } }
    var text: String? { bytes.map { String(decoding: $0, as: UTF8.self) } }
  }

  private let bytes: UnsafeRawBufferPointer
  private let place: String
  private var offset = 0

  init(_ bytes: UnsafeRawBufferPointer, place: String) {
    self.bytes = bytes
    self.place = place
  }

  private func error(_ problem: String) -> TokenizerError {
    TokenizerError(place, "\(problem), at byte \(offset)", advice: "it is damaged, or no SentencePiece model")
  }

  private mutating func varint() throws -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 64, by: 7) {
      guard offset < bytes.count else { throw error("it ends too early") }
      let byte = bytes[offset]
      offset += 1
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
    }
    throw error("a number is too long")
  }

  private mutating func take(_ count: Int) throws -> UnsafeRawBufferPointer {
    guard count <= bytes.count - offset else { throw error("it ends too early") }
    defer { offset += count }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
  }

  /// The number and value of the next field; nil at the end.
  mutating func next() throws -> (field: Int, value: Value)? {
    if offset == bytes.count { return nil }
    let key = try varint()
    let field = Int(truncatingIfNeeded: key >> 3)
    guard field > 0 else { throw error("there is no field \(field)") }
    switch key & 7 {
    case 0: return (field, .number(try varint()))
    case 1: return (field, .fixed64(UInt64(littleEndian: try take(8).loadUnaligned(as: UInt64.self))))
    case 2:
      guard let count = Int(exactly: try varint()) else { throw error("a length is impossible") }
      return (field, .bytes(try take(count)))
    case 5: return (field, .fixed32(UInt32(littleEndian: try take(4).loadUnaligned(as: UInt32.self))))
    default: throw error("there is no wire type \(key & 7)")
    }
  }
}
