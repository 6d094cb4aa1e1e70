/// Cuts at the scalars of a set.
struct SetSplit: PreTokenizer {
  private let set: ScalarBitmap
  private let behavior: SplitBehavior

  init(_ set: ScalarSet, _ behavior: SplitBehavior) {
    self.set = ScalarBitmap(set)
    self.behavior = behavior
  }

  func cut(_ text: inout PieceText) { text.split(at: set, behavior) }
}

/// Cuts at the matches of a pattern.
struct PatternSplit: PreTokenizer {
  private let pattern: Pattern
  private let behavior: SplitBehavior
  private let isInverted: Bool

  init(_ pattern: Pattern, _ behavior: SplitBehavior = .isolated, inverted: Bool = false) {
    self.pattern = pattern
    self.behavior = behavior
    isInverted = inverted
  }

  init(_ settings: Settings) throws {
    guard let behavior = try SplitBehavior(settings, "behavior") else { throw settings.error("it has no 'behavior'") }
    self.init(try settings.pattern(), behavior, inverted: try settings.flag("invert") ?? false)
  }

  func cut(_ text: inout PieceText) throws {
    try text.split(behavior, inverted: isInverted) { buffer, range, match in
      try PatternMatcher.matches(of: pattern, in: buffer, range, match)
    }
  }
}

/// Runs of word characters and runs of signs; white space is dropped.
struct WordsAndSigns: PreTokenizer {
  private let split: PatternSplit

  init() throws {
    let word = UnicodeClasses.wordWithJoiners
    let runs = [word, word.union(UnicodeClasses.whitespace).inverted].map { set in
      PatternNode.repeated(.set(set), least: 1, most: PatternNode.unbounded, .greedy)
    }
    split = PatternSplit(try Pattern(.alternatives(runs), source: "words and signs"), .removed, inverted: true)
  }

  func cut(_ text: inout PieceText) throws { try split.cut(&text) }
}

/// Cuts between scripts. Hiragana and Katakana count as Han; spaces and what has no script belong to whatever is around.
struct ScriptSplit: PreTokenizer {
  private static let any = -1
  private static let unknown = ScalarBitmap(.coded(LibraryData.scripts))
  private static let han = UnicodeScripts.names.firstIndex(of: "han") ?? any
  private static let japanese = Set(["hiragana", "katakana"].compactMap { UnicodeScripts.names.firstIndex(of: $0) })

  private static func script(_ scalar: UInt32) -> Int {
    if scalar == 0x20 || unknown.contains(scalar) { return any }
    if scalar == 0x30FC { return han }
    let runs = UnicodeScripts.runs
    var (low, high) = (0, runs.count)
    while low < high {
      let middle = (low + high) / 2
      if runs[middle].range.upperBound <= scalar { low = middle + 1 } else { high = middle }
    }
    guard low < runs.count, runs[low].range.contains(scalar) else { return any }
    return japanese.contains(runs[low].script) ? han : runs[low].script
  }

  func cut(_ text: inout PieceText) {
    text.split(.removed, inverted: true) { buffer, range, match in
      guard let bytes = buffer.baseAddress else { return }
      var place = range.lowerBound
      var start: Int?
      var last: Int?
      while place < range.upperBound {
        let (scalar, length) = UTF8Scalar.decode(bytes, place, range.upperBound)
        let script = Self.script(scalar)
        if script != Self.any, last != script {
          if let start { match(start..<place) }
          start = place
        }
        if script != Self.any { last = script }
        place += length
      }
      // Without any script at all, the library drops the piece; so do leading characters without one.
      match((start ?? range.upperBound)..<range.upperBound)
    }
  }
}

/// Pieces of so many characters.
struct FixedLengthSplit: PreTokenizer {
  let length: Int

  func cut(_ text: inout PieceText) {
    text.split(.isolated) { buffer, range, match in
      guard let bytes = buffer.baseAddress else { return }
      var (place, start, count) = (range.lowerBound, range.lowerBound, 0)
      while place < range.upperBound {
        place += UTF8Scalar.decode(bytes, place, range.upperBound).length
        count += 1
        if count % length == 0 {
          match(start..<place)
          start = place
        }
      }
    }
  }
}
