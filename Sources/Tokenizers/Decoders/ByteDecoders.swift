/// Letters of the byte alphabet become their bytes; a token with another character in it stays as it is.
struct ByteLevelDecoding: DecodingStep {
  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) {
    output.append(ByteAlphabet.bytes(of: piece) ?? piece)
  }
}

/// Tokens of bytes (`<0x0A>`) become their bytes, valid UTF-8 or not.
struct ByteFallbackDecoding: DecodingStep {
  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) {
    output.append(ByteTokens.byte(piece).map { [$0] } ?? piece)
  }
}
