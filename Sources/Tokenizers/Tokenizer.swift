import FermataFiles

/// Turns text into token ids and back. A value: any number of threads may use it at once.
///
/// Text is bytes, because that is what files and pipes hold; it need not be valid UTF-8. Ids are those of the model the
/// tokenizer belongs to.
public protocol Tokenizer: Sendable {
  /// Ids are below this number.
  var vocabularySize: Int { get }
  /// The token that begins a text, where there is one.
  var beginToken: Int? { get }
  /// The tokens that end a text or a turn.
  var endTokens: Set<Int> { get }
  /// Whether the library that this kind of file comes from takes special tokens written in a text for what they name,
  /// unless told otherwise. The command follows it, so that ids agree.
  var parsesSpecialTokensByDefault: Bool { get }

  /// The ids of a text, in time linear in its length.
  /// - Parameters:
  ///   - addingSpecialTokens: whether what models expect around a text (begin, end, `[CLS]`, …) is added.
  ///   - parsingSpecialTokens: whether special tokens written in the text stand for themselves. Never true for text
  ///     that strangers write: they could end a turn.
  /// - Throws: `TokenizerError` for text that the vocabulary cannot express.
  func encode(_ text: [UInt8], addingSpecialTokens: Bool, parsingSpecialTokens: Bool) throws -> [Int]

  /// A decoder at the beginning of a text, which is fed one id at a time.
  func makeDecoder(skippingSpecialTokens: Bool) -> any TokenDecoder

  /// The token with this id as its file writes it (`Ġworld`, `▁the`, `<0x0A>`); nil for ids that name none.
  func token(_ id: Int) -> String?
  /// The id of a token as its file writes it.
  func id(of token: String) -> Int?
}

/// Turns ids into bytes, one at a time. A copy is a fork: both go on from here.
public protocol TokenDecoder: Sendable {
  /// The bytes that are certain once this id is known; they may end inside a character.
  /// - Throws: `TokenizerError` for ids outside the vocabulary.
  mutating func push(_ id: Int) throws -> [UInt8]
  /// The same, appended to what is there.
  mutating func push(_ id: Int, into bytes: inout [UInt8]) throws
  /// The bytes that waited for what comes next. The decoder is then at the beginning again.
  /// - Throws: `TokenizerError` for a text that takes too long.
  mutating func finish() throws -> [UInt8]
}

extension TokenDecoder {
  public mutating func push(_ id: Int, into bytes: inout [UInt8]) throws { bytes += try push(id) }
}

extension Tokenizer {
  /// The ids of a text without special tokens around it; those written in it are plain text.
  public func encode(_ text: String) throws -> [Int] {
    try encode(Array(text.utf8), addingSpecialTokens: false, parsingSpecialTokens: false)
  }

  /// The bytes of ids, exactly: bytes of byte tokens come out as they are, valid UTF-8 or not.
  /// - Throws: `TokenizerError` for ids outside the vocabulary.
  public func decode(_ ids: some Sequence<Int>, skippingSpecialTokens: Bool) throws -> [UInt8] {
    var decoder = makeDecoder(skippingSpecialTokens: skippingSpecialTokens)
    var bytes: [UInt8] = []
    for id in ids { try decoder.push(id, into: &bytes) }
    return try bytes + decoder.finish()
  }

  /// A decoder whose output is whole characters of valid UTF-8.
  public func makeStreamDecoder(skippingSpecialTokens: Bool) -> StreamDecoder {
    StreamDecoder(makeDecoder(skippingSpecialTokens: skippingSpecialTokens))
  }
}

/// Turns ids into text as they come and never gives out half a character: bytes wait until the character is whole. Each
/// ill-formed sequence becomes one U+FFFD.
public struct StreamDecoder: Sendable {
  private var decoder: any TokenDecoder
  private var characters = UTF8Stream()

  init(_ decoder: any TokenDecoder) { self.decoder = decoder }

  /// The characters, as UTF-8, that are certain once this id is known; often none.
  /// - Throws: `TokenizerError` for ids outside the vocabulary.
  public mutating func push(_ id: Int) throws -> [UInt8] { characters.push(try decoder.push(id)) }

  /// What was still waiting. The decoder is then at the beginning again.
  /// - Throws: `TokenizerError` for a text that takes too long.
  public mutating func finish() throws -> [UInt8] { characters.push(try decoder.finish()) + characters.finish() }
}
