import Foundation

/// The map that SentencePiece compiles its normalization into: a double array (Aoe 1989, in the layout of darts-clone) of
/// what to replace, and the replacements one after another, each with a NUL behind it.
struct CharacterMap: Sendable {
  private let units: [UInt32]
  private let replacements: [UInt8]

  /// - Throws: `TokenizerError` when the sizes inside cannot be.
  init(_ blob: [UInt8], place: String) throws {
    guard blob.count >= 4 else { throw TokenizerError(place, "the character map is too short") }
    let size = blob.withUnsafeBytes { Int(UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self))) }
    guard size <= blob.count - 4, size % 4 == 0, size > 0 else {
      throw TokenizerError(place, "the character map claims \(size) bytes of table, but has \(blob.count - 4)")
    }
    units = blob.withUnsafeBytes { bytes in
      (0..<size / 4).map { UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 + $0 * 4, as: UInt32.self)) }
    }
    replacements = Array(blob[(4 + size)...])
  }

  /// Which entry of the map counts when several fit.
  enum Choice { case shortest, longest }

  /// What an entry that the text in a range begins with becomes, and where that entry ends; nil when none fits.
  func match(
    _ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ choice: Choice
  ) -> (replacement: Range<Int>, end: Int)? {
    var node = Int(offset(units[0]))
    var found: (Int, Int)?
    for place in range {
      let byte = text[place]
      if byte == 0 { break }
      node ^= Int(byte)
      guard units.indices.contains(node), units[node] & 0x8000_00FF == UInt32(byte) else { break }
      let unit = units[node]
      node ^= Int(offset(unit))
      if unit >> 8 & 1 == 1, units.indices.contains(node) {
        found = (Int(units[node] & 0x7FFF_FFFF), place + 1)
        if choice == .shortest { break }
      }
    }
    guard let (start, end) = found, start <= replacements.count else { return nil }
    let length = replacements[start...].firstIndex(of: 0).map { $0 - start } ?? 0
    return (start..<start + length, end)
  }

  private func offset(_ unit: UInt32) -> UInt32 { (unit >> 10) << ((unit & 1 << 9) >> 6) }

  /// The bytes of a replacement.
  func replacement(_ range: Range<Int>) -> ArraySlice<UInt8> { replacements[range] }
}

/// A character map as tokenizer.json's library applies it: to grapheme clusters that are short, otherwise scalar by scalar.
/// The shortest entry that the cluster begins with replaces all of it.
struct CharacterMapNormalizer: Normalizer {
  private let map: CharacterMap?

  init(_ settings: Settings) throws {
    let text = try settings.neededText("precompiled_charsmap")
    guard let blob = Data(base64Encoded: text) else { throw settings.error("'precompiled_charsmap' is no Base64") }
    map = blob.isEmpty ? nil : try CharacterMap(Array(blob), place: settings.place)
  }

  func normalize(_ text: [UInt8]) -> [UInt8] {
    guard let map else { return text }
    var output: [UInt8] = []
    output.reserveCapacity(text.count)
    text.withUnsafeBufferPointer { buffer in
      GraphemeClusters.forEach(in: buffer) { cluster in
        if cluster.count < 6, let (replacement, _) = map.match(buffer, cluster, .shortest) {
          output += map.replacement(replacement)
          return
        }
        var place = cluster.lowerBound
        while place < cluster.upperBound, let bytes = buffer.baseAddress {
          let (_, length) = UTF8Scalar.decode(bytes, place, cluster.upperBound)
          let scalar = place..<place + length
          if let (replacement, _) = map.match(buffer, scalar, .shortest) {
            output += map.replacement(replacement)
          } else {
            output += buffer[scalar]
          }
          place += length
        }
      }
    }
    return output
  }
}

/// Grapheme clusters of bytes that need not be valid UTF-8.
enum GraphemeClusters {
  /// Calls `body` with every cluster's range; invalid bytes are clusters of their own.
  static func forEach(in text: UnsafeBufferPointer<UInt8>, _ body: (Range<Int>) -> Void) {
    guard let bytes = text.baseAddress else { return }
    var start = 0
    while start < text.count {
      // Between two ASCII characters there is always a boundary, but for CR LF: most text never becomes a String.
      if bytes[start] < 0x80, start + 1 == text.count || bytes[start + 1] < 0x80 {
        let isPair = bytes[start] == 13 && start + 1 < text.count && bytes[start + 1] == 10
        body(start..<start + (isPair ? 2 : 1))
        start += isPair ? 2 : 1
        continue
      }
      start = segment(text, bytes, start, body)
    }
  }

  /// A stretch up to the next two ASCII characters or invalid byte.
  private static func segment(
    _ text: UnsafeBufferPointer<UInt8>, _ bytes: UnsafePointer<UInt8>, _ start: Int, _ body: (Range<Int>) -> Void
  ) -> Int {
    var end = start
    while end < text.count {
      let (scalar, length) = UTF8Scalar.decode(bytes, end, text.count)
      if scalar >= UTF8Scalar.invalid { break }
      if end > start, bytes[end] < 0x80, bytes[end - 1] < 0x80 { break }
      end += length
    }
    if end == start {
      body(start..<start + 1)
      return start + 1
    }
    var place = start
    for character in String(decoding: text[start..<end], as: UTF8.self) {
      let length = character.utf8.count
      body(place..<place + length)
      place += length
    }
    return end
  }
}
