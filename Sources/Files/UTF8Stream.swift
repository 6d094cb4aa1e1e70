/// Turns bytes that come in any pieces into valid UTF-8, never cutting a character in half.
///
/// Bytes that begin a character wait until it is whole. Each ill-formed sequence becomes one U+FFFD, cut where the
/// Unicode
/// standard advises (chapter 3, "maximal subparts"), so the output is that of `String(decoding:as:)` on the whole.
public struct UTF8Stream: Sendable {
  private var pending: [UInt8] = []
  private var expected = 0
  private static let replacement: [UInt8] = [0xEF, 0xBF, 0xBD]

  /// An empty stream.
  public init() {}

  /// Takes bytes and returns those, of these and earlier ones, that are whole characters.
  public mutating func push(_ bytes: some Sequence<UInt8>) -> [UInt8] {
    var output: [UInt8] = []
    for byte in bytes { push(byte, into: &output) }
    return output
  }

  /// Ends the stream: an unfinished character becomes U+FFFD. The stream can be used again.
  public mutating func finish() -> [UInt8] {
    defer { pending.removeAll() }
    return pending.isEmpty ? [] : Self.replacement
  }

  private mutating func push(_ byte: UInt8, into output: inout [UInt8]) {
    if !pending.isEmpty {
      if accepts(byte) {
        pending.append(byte)
        if pending.count == expected {
          output += pending
          pending.removeAll(keepingCapacity: true)
        }
        return
      }
      output += Self.replacement
      pending.removeAll(keepingCapacity: true)
    }
    switch byte {
    case 0x00...0x7F: output.append(byte)
    case 0xC2...0xDF: begin(byte, 2)
    case 0xE0...0xEF: begin(byte, 3)
    case 0xF0...0xF4: begin(byte, 4)
    default: output += Self.replacement
    }
  }

  private mutating func begin(_ byte: UInt8, _ length: Int) {
    pending.append(byte)
    expected = length
  }

  /// Whether `byte` can follow what waits: the second byte excludes overlong forms, surrogates and values past
  /// U+10FFFF.
  private func accepts(_ byte: UInt8) -> Bool {
    guard pending.count == 1 else { return (0x80...0xBF).contains(byte) }
    return switch pending[0] {
    case 0xE0: (0xA0...0xBF).contains(byte)
    case 0xED: (0x80...0x9F).contains(byte)
    case 0xF0: (0x90...0xBF).contains(byte)
    case 0xF4: (0x80...0x8F).contains(byte)
    default: (0x80...0xBF).contains(byte)
    }
  }
}
