/// One token a byte: id = byte value. What comes before a text is token 256.
public struct ByteTokenizer: Tokenizer {
  public let beginToken: Int?
  public let vocabularySize: Int
  public let endTokens: Set<Int>
  public let parsesSpecialTokensByDefault = false

  /// - Parameter beginToken: the id, above the bytes, that begins and ends documents; nil for none.
  public init(beginToken: Int? = 256) {
    let beginToken = beginToken.flatMap { $0 > 255 && $0 < Int32.max ? $0 : nil }
    self.beginToken = beginToken
    vocabularySize = beginToken.map { $0 + 1 } ?? 256
    endTokens = beginToken.map { [$0] } ?? []
  }

  public func encode(_ text: [UInt8], addingSpecialTokens: Bool, parsingSpecialTokens: Bool) -> [Int] {
    (addingSpecialTokens ? beginToken.map { [$0] } ?? [] : []) + text.map { Int($0) }
  }

  public func makeDecoder(skippingSpecialTokens: Bool) -> any TokenDecoder {
    Decoder(vocabularySize: vocabularySize)
  }

  public func token(_ id: Int) -> String? {
    if (0..<256).contains(id) { return Self.name(UInt8(id)) }
    return id == beginToken ? "<document>" : nil
  }

  public func id(of token: String) -> Int? {
    if let beginToken, token == "<document>" { return beginToken }
    if token.utf8.count == 1, let byte = token.utf8.first { return Int(byte) }
    return (0..<256).first { Self.name(UInt8($0)) == token }
  }

  /// Printable ASCII as itself, other bytes as `<0x0A>`.
  static func name(_ byte: UInt8) -> String {
    if (0x20..<0x7F).contains(byte) { return String(Character(Unicode.Scalar(byte))) }
    let digits = String(byte, radix: 16, uppercase: true)
    return "<0x\(digits.count == 1 ? "0" : "")\(digits)>"
  }

  private struct Decoder: TokenDecoder {
    let vocabularySize: Int

    mutating func push(_ id: Int) throws -> [UInt8] {
      guard (0..<vocabularySize).contains(id) else {
        throw TokenizerError.unknownID(id, "bytes", size: vocabularySize)
      }
      return id < 256 ? [UInt8(id)] : []
    }

    mutating func finish() -> [UInt8] { [] }
  }
}
