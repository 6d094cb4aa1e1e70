/// What SentencePiece does to a text: its character map, longest entries first; spaces together and away from the ends; a
/// space in front; spaces as marks (▁). User-defined pieces are left as they are.
struct SentencePieceNormalizer: Normalizer {
  var map: CharacterMap?
  /// User-defined pieces.
  var fixed = PieceTrie()
  var addsDummyPrefix = true
  var removesExtraSpaces = true
  var escapesSpaces = true
  var treatsSpaceAsSuffix = false
  private static let mark = Array("▁".utf8)
  private static let replacement = Array("\u{FFFD}".utf8)

  func normalize(_ text: [UInt8]) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(text.count + text.count / 4 + 3)
    text.withUnsafeBufferPointer { buffer in
      var start = 0
      if removesExtraSpaces { while start < buffer.count, isSpace(buffer, &start) {} }
      if start == buffer.count { return }
      let space = escapesSpaces ? Self.mark : [UInt8(ascii: " ")]
      if addsDummyPrefix, !treatsSpaceAsSuffix { output += space }
      var wasSpace = removesExtraSpaces
      while start < buffer.count {
        start = step(buffer, start) { piece in
          var piece = piece
          // After a space, further ones at the beginning of what follows are extra.
          while wasSpace, removesExtraSpaces, piece.first == UInt8(ascii: " ") { piece = piece.dropFirst() }
          if piece.isEmpty { return }
          for byte in piece {
            if byte == UInt8(ascii: " ") { output += space } else { output.append(byte) }
          }
          wasSpace = piece.last == UInt8(ascii: " ")
        }
        if !removesExtraSpaces { wasSpace = false }
      }
      if removesExtraSpaces {
        while output.count >= space.count, output.suffix(space.count).elementsEqual(space) {
          output.removeLast(space.count)
        }
      }
      if addsDummyPrefix, treatsSpaceAsSuffix { output += space }
    }
    return output
  }

  /// Whether what stands here becomes one space; moves past it.
  private func isSpace(_ text: UnsafeBufferPointer<UInt8>, _ start: inout Int) -> Bool {
    var isSpace = false
    let end = step(text, start) { piece in isSpace = piece.elementsEqual([UInt8(ascii: " ")]) }
    if isSpace { start = end }
    return isSpace
  }

  /// Hands what the text here becomes to `body`.
  /// - Returns: where the text goes on.
  private func step(_ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ body: (ArraySlice<UInt8>) -> Void) -> Int {
    if !fixed.isEmpty, let match = fixed.longestMatch(text, start, text.count) {
      body(ArraySlice(text[start..<match.end]))
      return match.end
    }
    if let map, let (replacement, end) = map.match(text, start..<text.count, .longest) {
      body(map.replacement(replacement))
      return end
    }
    guard let bytes = text.baseAddress else { return text.count }
    let (scalar, length) = UTF8Scalar.decode(bytes, start, text.count)
    body(scalar < UTF8Scalar.invalid ? ArraySlice(text[start..<start + length]) : Self.replacement[...])
    return start + length
  }
}
