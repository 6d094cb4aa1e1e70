/// White space away from the ends.
struct StripSpaces: Normalizer {
  let left: Bool
  let right: Bool
  private static let whitespace = ScalarBitmap(UnicodeClasses.whitespace)

  func normalize(_ text: [UInt8]) -> [UInt8] {
    text.withUnsafeBufferPointer { buffer in
      guard let bytes = buffer.baseAddress else { return [] }
      var (start, end) = (0, buffer.count)
      while left, start < end {
        let (scalar, length) = UTF8Scalar.decode(bytes, start, end)
        if !Self.whitespace.contains(scalar) { break }
        start += length
      }
      while right, end > start {
        let previous = UTF8Scalar.previous(bytes, end, start)
        if !Self.whitespace.contains(UTF8Scalar.decode(bytes, previous, end).scalar) { break }
        end = previous
      }
      return Array(buffer[start..<end])
    }
  }
}

/// A text in front of every text that is not empty.
struct Prepend: Normalizer {
  let text: [UInt8]

  func normalize(_ text: [UInt8]) -> [UInt8] { text.isEmpty ? text : self.text + text }
}

/// Every match of a pattern becomes a fixed text.
struct Replace: Normalizer {
  let pattern: Pattern
  let content: [UInt8]

  func normalize(_ text: [UInt8]) throws -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(text.count)
    var end = 0
    try text.withUnsafeBufferPointer { buffer in
      try PatternMatcher.matches(of: pattern, in: buffer, 0..<buffer.count) { match in
        output += buffer[end..<match.lowerBound]
        output += content
        end = match.upperBound
      }
      output += buffer[end...]
    }
    return output
  }
}

/// Every byte becomes its letter in the byte alphabet.
struct ByteLevelNormalizer: Normalizer {
  func normalize(_ text: [UInt8]) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(text.count * 3 / 2)
    for byte in text { output += ByteAlphabet.letters[Int(byte)] }
    return output
  }
}
