import FermataFiles

/// Whole characters from bytes as they come.
public struct UTF8Text: Sendable {
  private var stream = UTF8Stream()

  /// At the beginning of a text.
  public init() {}

  /// The text that the bytes complete.
  public mutating func push(_ bytes: [UInt8]) -> String { String(decoding: stream.push(bytes), as: UTF8.self) }
  /// What is left, replaced where it is no character.
  public mutating func finish() -> String { String(decoding: stream.finish(), as: UTF8.self) }
}
