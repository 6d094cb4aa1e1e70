/// Unicode scalars in bytes that need not be valid UTF-8. A byte that belongs to no valid sequence counts as a character
/// of its own, with a number above all of Unicode's, so that nothing is lost and nothing traps.
enum UTF8Scalar {
  /// What an invalid byte b counts as: this number + b.
  static let invalid: UInt32 = 0x110000
  /// All numbers of scalars and invalid bytes are below this.
  static let limit: UInt32 = invalid + 256

  /// The scalar at `offset`, which is below `end`, and how many bytes it takes.
  @inline(__always)
  static func decode(_ bytes: UnsafePointer<UInt8>, _ offset: Int, _ end: Int) -> (scalar: UInt32, length: Int) {
    let first = bytes[offset]
    return first < 0x80 ? (UInt32(first), 1) : decodeLonger(bytes + offset, end - offset)
  }

  private static func decodeLonger(_ bytes: UnsafePointer<UInt8>, _ count: Int) -> (scalar: UInt32, length: Int) {
    let first = UInt32(bytes[0])
    func next(_ index: Int) -> UInt32? {
      guard index < count, bytes[index] & 0xC0 == 0x80 else { return nil }
      return UInt32(bytes[index] & 0x3F)
    }
    guard first >= 0xC2, first <= 0xF4, let second = next(1) else { return (invalid + first, 1) }
    if first < 0xE0 { return ((first & 0x1F) << 6 | second, 2) }
    guard let third = next(2) else { return (invalid + first, 1) }
    if first < 0xF0 {
      let scalar = (first & 0xF) << 12 | second << 6 | third
      return scalar < 0x800 || scalar & 0xF800 == 0xD800 ? (invalid + first, 1) : (scalar, 3)
    }
    guard let fourth = next(3) else { return (invalid + first, 1) }
    let scalar = (first & 7) << 18 | second << 12 | third << 6 | fourth
    return (0x10000...0x10FFFF).contains(scalar) ? (scalar, 4) : (invalid + first, 1)
  }

  /// Where the character that ends before `offset` begins; `offset` is above `start`.
  @inline(__always)
  static func previous(_ bytes: UnsafePointer<UInt8>, _ offset: Int, _ start: Int) -> Int {
    if bytes[offset - 1] < 0x80 { return offset - 1 }
    for length in 2...4 where offset - length >= start {
      if bytes[offset - length] & 0xC0 == 0xC0 {
        return decode(bytes, offset - length, offset).length == length ? offset - length : offset - 1
      }
    }
    return offset - 1
  }

  /// Appends the bytes of a scalar, or the byte that an invalid number stands for.
  static func append(_ scalar: UInt32, to bytes: inout [UInt8]) {
    switch scalar {
    case 0..<0x80: bytes.append(UInt8(scalar))
    case 0x80..<0x800: bytes += [UInt8(0xC0 | scalar >> 6), UInt8(0x80 | scalar & 0x3F)]
    case 0x800..<0x10000:
      bytes += [UInt8(0xE0 | scalar >> 12), UInt8(0x80 | scalar >> 6 & 0x3F), UInt8(0x80 | scalar & 0x3F)]
    case 0x10000..<invalid:
      bytes += [
        UInt8(0xF0 | scalar >> 18), UInt8(0x80 | scalar >> 12 & 0x3F), UInt8(0x80 | scalar >> 6 & 0x3F),
        UInt8(0x80 | scalar & 0x3F),
      ]
    default: bytes.append(UInt8(truncatingIfNeeded: scalar - invalid))
    }
  }

  /// All scalars of a text.
  static func all(_ text: [UInt8]) -> [UInt32] {
    var scalars: [UInt32] = []
    scalars.reserveCapacity(text.count)
    text.withUnsafeBufferPointer { buffer in
      guard let bytes = buffer.baseAddress else { return }
      var offset = 0
      while offset < buffer.count {
        let (scalar, length) = decode(bytes, offset, buffer.count)
        scalars.append(scalar)
        offset += length
      }
    }
    return scalars
  }
}

extension Array where Element == UInt8 {
  /// True when no byte is above 127.
  var isASCII: Bool {
    withUnsafeBytes { bytes in
      var offset = 0
      while offset + 8 <= bytes.count {
        if bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) & 0x8080_8080_8080_8080 != 0 { return false }
        offset += 8
      }
      return bytes[offset...].allSatisfy { $0 < 0x80 }
    }
  }
}
