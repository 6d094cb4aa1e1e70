/// One token a nucleotide, with the ids of HyenaDNA (Nguyen et al. 2023): seven special tokens, then the letters
/// A, C, G, T, N from 7. Every other byte, lower case included, is `[UNK]`.
public struct DNATokenizer: Tokenizer {
  static let specials = ["[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]"]
  static let letters = Array("ACGTN".utf8)
  private static let separator = 1
  private static let unknown = 6
  private static let idOfByte: [Int] = (0..<256).map { byte in
    letters.firstIndex(of: UInt8(byte)).map { specials.count + $0 } ?? unknown
  }

  public let vocabularySize = 12
  public let beginToken: Int? = 2
  public let endTokens: Set<Int> = [1]
  public let parsesSpecialTokensByDefault = false

  /// There is one kind only.
  public init() {}

  /// The separator ends a sequence when special tokens are added, as HyenaDNA's own tokenizer has it.
  public func encode(_ text: [UInt8], addingSpecialTokens: Bool, parsingSpecialTokens: Bool) -> [Int] {
    text.map { Self.idOfByte[Int($0)] } + (addingSpecialTokens ? [Self.separator] : [])
  }

  public func makeDecoder(skippingSpecialTokens: Bool) -> any TokenDecoder {
    Decoder(skipsSpecialTokens: skippingSpecialTokens)
  }

  public func token(_ id: Int) -> String? {
    if Self.specials.indices.contains(id) { return Self.specials[id] }
    guard (Self.specials.count..<vocabularySize).contains(id) else { return nil }
    return String(Character(Unicode.Scalar(Self.letters[id - Self.specials.count])))
  }

  public func id(of token: String) -> Int? { (0..<vocabularySize).first { self.token($0) == token } }

  private struct Decoder: TokenDecoder {
    let skipsSpecialTokens: Bool

    mutating func push(_ id: Int) throws -> [UInt8] {
      guard let token = DNATokenizer().token(id) else { throw TokenizerError.unknownID(id, "DNA", size: 12) }
      return id < DNATokenizer.specials.count && skipsSpecialTokens ? [] : Array(token.utf8)
    }

    mutating func finish() -> [UInt8] { [] }
  }
}
