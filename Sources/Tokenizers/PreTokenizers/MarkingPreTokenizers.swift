/// Spaces become a visible mark (▁), which begins every word.
struct MetaspacePreTokenizer: PreTokenizer {
  /// When a mark is put in front of what does not begin with one.
  enum Scheme: String, Sendable { case first, never, always }

  private let mark: [UInt8]
  private let scheme: Scheme
  private let splitter: PatternSplit?

  init(_ settings: Settings) throws {
    let mark = try settings.character("replacement") ?? "▁"
    self.mark = Array(String(Character(mark)).utf8)
    scheme = try Self.scheme(settings)
    splitter =
      try settings.flag("split") ?? true
      ? PatternSplit(try Pattern(literal: String(Character(mark))), .mergedWithNext) : nil
  }

  static func scheme(_ settings: Settings) throws -> Scheme {
    let name = try settings.text("prepend_scheme") ?? "always"
    guard let scheme = Scheme(rawValue: name) else { throw settings.error("'prepend_scheme' cannot be '\(name)'") }
    // Older files say it with a flag.
    return try settings.flag("add_prefix_space") == false ? .never : scheme
  }

  func cut(_ text: inout PieceText) throws {
    let space = UInt8(ascii: " ")
    text.rewrite { piece, isFirst, output in
      let isMarked = piece.first == space || piece.starts(with: mark)
      if !isMarked, scheme == .always || scheme == .first && isFirst { output += mark }
      for byte in piece {
        if byte == space { output += mark } else { output.append(byte) }
      }
    }
    try splitter?.cut(&text)
  }
}

/// Byte-level text: a space in front, the words of GPT-2's pattern, and bytes written in the byte alphabet.
struct ByteLevelPreTokenizer: PreTokenizer {
  /// GPT-2's words (Radford et al. 2019).
  static let words = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  static func make(_ settings: Settings) throws -> [any PreTokenizer] {
    var steps: [any PreTokenizer] = []
    if try settings.flag("add_prefix_space") ?? true { steps.append(LeadingSpace()) }
    if try settings.flag("use_regex") ?? true { steps.append(PatternSplit(try Pattern(words))) }
    return steps + [ByteLevelPreTokenizer()]
  }

  func cut(_ text: inout PieceText) {
    text.rewrite { piece, _, output in
      for byte in piece { output += ByteAlphabet.letters[Int(byte)] }
    }
  }
}

/// A space in front of every piece that does not begin with one.
struct LeadingSpace: PreTokenizer {
  func cut(_ text: inout PieceText) {
    let space = UInt8(ascii: " ")
    text.rewrite { piece, _, output in
      if piece.first != space { output.append(space) }
      output += piece
    }
  }
}
