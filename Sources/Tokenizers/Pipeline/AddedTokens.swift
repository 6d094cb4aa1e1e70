import FermataFiles

/// A token that is looked for in the text itself, before anything else happens to it.
struct AddedToken: Sendable {
  var id: Int
  var content: [UInt8]
  /// Left out of decoded text, and only found where special tokens are asked for.
  var isSpecial = false
  /// Only found where no word character touches it.
  var isSingleWord = false
  /// Takes white space before it along.
  var stripsLeft = false
  /// Takes white space behind it along.
  var stripsRight = false
  /// Looked for after normalization, in its own normalized form.
  var isNormalized = false
}

/// Finds added tokens in texts.
struct AddedTokens: Sendable {
  /// A stretch of a text: an added token, or text between (nil).
  typealias Segment = (id: Int?, range: Range<Int>)

  /// Tokens looked for in the same state of a text.
  struct Group: Sendable {
    private var trie = PieceTrie()
    private var firstBytes = [Bool](repeating: false, count: 256)
    private var tokens: [AddedToken] = []

    var isEmpty: Bool { tokens.isEmpty }

    mutating func insert(_ token: AddedToken, spelled content: [UInt8]) {
      guard let first = content.first else { return }
      trie.insert(content, number: tokens.count)
      tokens.append(token)
      firstBytes[Int(first)] = true
    }

    /// Cuts a text at the tokens in it: leftmost first, of those that begin together the longest.
    func segments(_ text: [UInt8], includingSpecial: Bool) -> [Segment] {
      if isEmpty || text.isEmpty { return text.isEmpty ? [] : [(nil, 0..<text.count)] }
      return text.withUnsafeBufferPointer { buffer in
        var segments: [Segment] = []
        var place = 0
        var done = 0
        while place < buffer.count {
          guard firstBytes[Int(buffer[place])], let match = trie.longestMatch(buffer, place, buffer.count) else {
            place += 1
            continue
          }
          let token = tokens[match.number]
          let found = place..<match.end
          place = match.end
          if token.isSpecial && !includingSpecial || token.isSingleWord && touchesWord(buffer, found) { continue }
          let range = widened(found, token, buffer, done)
          if done < range.lowerBound { segments.append((nil, done..<range.lowerBound)) }
          segments.append((token.id, range))
          done = range.upperBound
        }
        if done < buffer.count { segments.append((nil, done..<buffer.count)) }
        return segments
      }
    }

    private static let word = ScalarBitmap(UnicodeClasses.wordWithJoiners)
    private static let whitespace = ScalarBitmap(UnicodeClasses.whitespace)

    private func touchesWord(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Bool {
      guard let bytes = text.baseAddress else { return false }
      if range.lowerBound > 0 {
        let previous = UTF8Scalar.previous(bytes, range.lowerBound, 0)
        if Self.word.contains(UTF8Scalar.decode(bytes, previous, text.count).scalar) { return true }
      }
      guard range.upperBound < text.count else { return false }
      return Self.word.contains(UTF8Scalar.decode(bytes, range.upperBound, text.count).scalar)
    }

    /// The range with the white space that the token takes along; what is before `done` is taken already.
    private func widened(
      _ range: Range<Int>, _ token: AddedToken, _ text: UnsafeBufferPointer<UInt8>, _ done: Int
    ) -> Range<Int> {
      guard let bytes = text.baseAddress else { return range }
      var (start, end) = (range.lowerBound, range.upperBound)
      while token.stripsLeft, start > done {
        let previous = UTF8Scalar.previous(bytes, start, 0)
        if !Self.whitespace.contains(UTF8Scalar.decode(bytes, previous, text.count).scalar) { break }
        start = previous
      }
      if token.stripsLeft { start = max(start, done) }
      while token.stripsRight, end < text.count {
        let (scalar, length) = UTF8Scalar.decode(bytes, end, text.count)
        if !Self.whitespace.contains(scalar) { break }
        end += length
      }
      return start..<max(start, end)
    }
  }

  init() {}

  private(set) var raw = Group()
  private(set) var normalized = Group()
  /// Ids are below this number.
  private(set) var idLimit = 0
  /// By id.
  private(set) var tokens: [Int: AddedToken] = [:]
  private var ids: [[UInt8]: Int] = [:]
  /// What added tokens are written as in the pieces that a decoder gets.
  private var spellings: [Int: [UInt8]] = [:]
  private var specials: Set<[UInt8]> = []
  private var specialFirstBytes = [Bool](repeating: false, count: 256)

  /// - Parameter normalizer: gives the form that normalized tokens are looked for in.
  /// - Throws: what the normalizer throws.
  init(_ tokens: [AddedToken], normalizer: (any Normalizer)?) throws {
    for token in tokens where !token.content.isEmpty {
      self.tokens[token.id] = token
      idLimit = max(idLimit, token.id + 1)
      ids[token.content] = token.id
      if token.isSpecial {
        specials.insert(token.content)
        specialFirstBytes[Int(token.content[0])] = true
      }
    }
    // In the order of ids, so that of equal spellings the same one always counts.
    for token in self.tokens.values.sorted(by: { $0.id < $1.id }) {
      if token.isNormalized {
        let spelled = try normalizer?.normalize(token.content) ?? token.content
        normalized.insert(token, spelled: spelled)
        spellings[token.id] = spelled
      } else {
        raw.insert(token, spelled: token.content)
        spellings[token.id] = token.content
      }
    }
  }

  func id(_ content: [UInt8]) -> Int? { ids[content] }

  /// What the token with this id hands to a decoder.
  func spelling(_ id: Int) -> [UInt8]? { spellings[id] }

  /// Whether what a token is spelled as is a special token: the library asks for the spelling, not for the id.
  func isSpecial(_ spelling: [UInt8]) -> Bool {
    guard let first = spelling.first, specialFirstBytes[Int(first)] else { return false }
    return specials.contains(spelling)
  }
}
