/// Marks (▁) become spaces; those of the first token go, where encoding had put one there.
struct MetaspaceDecoding: DecodingStep {
  let mark: [UInt8]
  let dropsFirst: Bool
  private var isFirst = true

  init(mark: [UInt8], dropsFirst: Bool) {
    self.mark = mark
    self.dropsFirst = dropsFirst
  }

  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) {
    let content = isFirst && dropsFirst ? [] : [UInt8(ascii: " ")]
    output.append(piece.replacing(mark, with: content))
    isFirst = false
  }
}

/// Continuations lose their prefix, other tokens get a space before them.
struct WordPieceDecoding: DecodingStep {
  let prefix: [UInt8]
  let cleans: Bool
  private var isFirst = true

  init(prefix: [UInt8], cleans: Bool) {
    self.prefix = prefix
    self.cleans = cleans
  }

  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) {
    var text = piece
    if !isFirst {
      text = piece.starts(with: prefix) ? Array(piece[prefix.count...]) : [UInt8(ascii: " ")] + piece
    }
    isFirst = false
    output.append(cleans ? EnglishSpacing.clean(text) : text)
  }
}

/// Removes the spaces that tokens of English leave before signs and short forms.
enum EnglishSpacing {
  private static let replacements: [(from: [UInt8], to: [UInt8])] = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
  ].map { (Array($0.0.utf8), Array($0.1.utf8)) }

  static func clean(_ text: [UInt8]) -> [UInt8] {
    guard text.contains(UInt8(ascii: " ")) else { return text }
    return replacements.reduce(text) { $0.replacing($1.from, with: $1.to) }
  }
}

/// The mark of a word's end becomes a space, but for the last token's.
struct SuffixDecoding: DecodingStep {
  let suffix: Pattern
  private var waiting: [UInt8]?

  init(suffix: Pattern) { self.suffix = suffix }

  private func replaced(_ piece: [UInt8], _ content: String) throws -> [UInt8] {
    try Replace(pattern: suffix, content: Array(content.utf8)).normalize(piece)
  }

  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) throws {
    if let waiting { output.append(try replaced(waiting, " ")) }
    waiting = piece
  }

  mutating func finish(into output: inout [[UInt8]]) throws {
    if let waiting { output.append(try replaced(waiting, "")) }
    waiting = nil
  }
}

/// The output of connectionist temporal classification (Graves et al. 2006): equal neighbours are one, padding is none.
struct CTCDecoding: DecodingStep {
  private let padding: [UInt8]
  private let delimiter: [UInt8]
  private let cleans: Bool
  private var last: [UInt8]?

  init(_ settings: Settings) throws {
    padding = Array((try settings.text("pad_token") ?? "<pad>").utf8)
    delimiter = Array((try settings.text("word_delimiter_token") ?? "|").utf8)
    cleans = try settings.flag("cleanup") ?? true
  }

  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) {
    if piece == last { return }
    last = piece
    var text = piece.replacing(padding, with: [])
    if cleans { text = EnglishSpacing.clean(text).replacing(delimiter, with: [UInt8(ascii: " ")]) }
    if !text.isEmpty { output.append(text) }
  }
}

extension [UInt8] {
  /// The bytes with every occurrence of a part replaced, from left to right.
  func replacing(_ part: [UInt8], with content: [UInt8]) -> [UInt8] {
    guard let first = part.first, contains(first) else { return self }
    var output: [UInt8] = []
    var index = 0
    while index < count {
      if self[index] == first, index + part.count <= count, self[index..<index + part.count].elementsEqual(part) {
        output += content
        index += part.count
      } else {
        output.append(self[index])
        index += 1
      }
    }
    return output
  }
}
