import FermataFiles

/// Changes a text before it is cut into pieces.
protocol Normalizer: Sendable {
  /// - Throws: `TokenizerError` for a text that takes too long.
  func normalize(_ text: [UInt8]) throws -> [UInt8]
}

/// The normalizers that a tokenizer.json can name.
enum Normalizers {
  static let table: [String: @Sendable (Settings) throws -> any Normalizer] = [
    "NFC": { _ in NormalizationForm.nfc }, "NFD": { _ in NormalizationForm.nfd },
    "NFKC": { _ in NormalizationForm.nfkc }, "NFKD": { _ in NormalizationForm.nfkd },
    "Lowercase": { _ in Lowercase() }, "StripAccents": { _ in StripAccents() }, "Nmt": { _ in NmtNormalizer() },
    "Strip": { StripSpaces(left: try $0.flag("strip_left") ?? true, right: try $0.flag("strip_right") ?? true) },
    "Prepend": { Prepend(text: Array(try $0.neededText("prepend").utf8)) },
    "Replace": { Replace(pattern: try $0.pattern(), content: Array(try $0.neededText("content").utf8)) },
    "BertNormalizer": { try BertNormalizer($0) }, "ByteLevel": { _ in ByteLevelNormalizer() },
    "Precompiled": { try CharacterMapNormalizer($0) },
    "Sequence": { NormalizerSequence(parts: try $0.parts("normalizers").map { try $0.make(table) }) },
  ]

  /// The normalizer that settings describe; nil for `null`.
  static func make(_ value: JSONValue?, place: String) throws -> (any Normalizer)? {
    guard let value, value != .null else { return nil }
    return try Settings(value: value, place: place + ": normalizer").make(table)
  }
}

/// One after the other.
struct NormalizerSequence: Normalizer {
  let parts: [any Normalizer]

  func normalize(_ text: [UInt8]) throws -> [UInt8] { try parts.reduce(text) { try $1.normalize($0) } }
}

extension NormalizationForm: Normalizer {
  func normalize(_ text: [UInt8]) -> [UInt8] { apply(to: text) }
}

extension [UInt8] {
  /// The text with every scalar replaced by what `body` appends for it. Invalid bytes come as scalars too.
  func mapScalars(_ body: (UInt32, inout [UInt8]) -> Void) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(count)
    withUnsafeBufferPointer { buffer in
      guard let bytes = buffer.baseAddress else { return }
      var offset = 0
      while offset < buffer.count {
        let (scalar, length) = UTF8Scalar.decode(bytes, offset, buffer.count)
        body(scalar, &output)
        offset += length
      }
    }
    return output
  }
}
