import Foundation
import Testing

@testable import FermataTokenizers

@Suite struct PatternTests {
  private func matches(_ pattern: String, _ text: String) throws -> [String] { try matches(pattern, Array(text.utf8)) }

  private func matches(_ pattern: String, _ text: [UInt8]) throws -> [String] {
    let pattern = try Pattern(pattern)
    var found: [String] = []
    try text.withUnsafeBufferPointer { buffer in
      try PatternMatcher.matches(of: pattern, in: buffer, 0..<buffer.count) {
        found.append(String(decoding: buffer[$0], as: UTF8.self))
      }
    }
    return found
  }

  @Test(arguments: [
    ("a|ab", "ab", ["a"]), ("a+?b", "aab", ["aab"]), ("a{2}", "aaaaa", ["aa", "aa"]), ("a{,2}b", "aaab", ["aab"]),
    ("(?:ab)+", "xababab", ["ababab"]), ("(a|b)*c", "abac", ["abac"]), ("a++a", "aaa", []), ("(?>a|ab)c", "abc", []),
    (#"\s+(?!\S)"#, "a   b", ["  "]), (#"(?i:'s|ll)"#, "'S 'ſ LL", ["'S", "'ſ", "LL"]), ("(?i)k", "Kk", ["K", "k"]),
    ("[^a-c]+", "abxyc", ["xy"]), (#"[\]\-x]+"#, "a]-x", ["]-x"]), ("[]a]+", "]a", ["]a"]),
    ("[a-z&&[^b-y]]+", "abz", ["a", "z"]),
    (#"\p{Lu}\p{Ll}*"#, "Ünïcödé ΣΟΦός", ["Ünïcödé", "Σ", "Ο", "Φός"]), (#"\p{Han}+"#, "我想в中文", ["我想", "中文"]),
    (#"\P{L}+"#, "a1 b", ["1 "]), (#"\p{^L}+"#, "a1", ["1"]), (#"\bfoo\b"#, "foo food", ["foo"]),
    ("^a|b$", "ab", ["a", "b"]),
    (#"\Aa|b\z"#, "aab", ["a", "b"]), ("(?<=a)b", "ab b", ["b"]), ("(?<!a)b", "ab b", ["b"]),
    (#"\x41\u00e9\x{1F600}"#, "Aé😀", ["Aé😀"]),
    ("[[:alpha:]]+", "ab1", ["ab"]), ("(?#comment)a", "a", ["a"]), ("(?x) a b # c", "ab", ["ab"]),
    ("x{a}", "x{a}", ["x{a}"]),
    ("(?=b)", "abb", ["", ""]), ("(a*)*b", "aab", ["aab"]), ("(|a)+c", "aac", ["aac"]), (".", "a\n😀", ["a", "😀"]),
  ])
  func finds(_ pattern: String, _ text: String, _ expected: [String]) throws {
    #expect(try matches(pattern, text) == expected)
  }

  @Test(arguments: [
    "(", ")", "[", "a)", "*", "a{3,1}", #"\p{Nonsense}"#, #"\1"#, "(?<=ab)", "[z-a]", "a{5000}", "\\", "(?y)",
  ])
  func refuses(_ pattern: String) { #expect(throws: TokenizerError.self) { try Pattern(pattern) } }

  @Test func invalidBytesAreCharactersOfNoClass() throws {
    #expect(try matches(#"[^\s\p{L}]"#, [0x61, 0xFF, 0x20, 0xE4, 0xB8]).count == 3)
    #expect(try matches(#"\p{L}+"#, [0xFF, 0x61, 0xC3]) == ["a"])
  }

  @Test func anExpressionThatRunsAwayEnds() {
    let text = String(repeating: "a", count: 5000)
    #expect(throws: TokenizerError.self) { try matches("(a|aa)+$b", text) }
    #expect(throws: TokenizerError.self) { try Pattern(String(repeating: "(", count: 200)) }
  }

  /// Reading takes time linear in the expression: any of these took minutes when it was the square.
  @Test(arguments: ["[", "(?i)[", "", "|"]) func longExpressionsAreReadInLinearTime(_ kind: String) throws {
    let scalars = (0..<60_000).compactMap { Unicode.Scalar(0x4E00 + UInt32($0)).map(String.init) }
    let text: String =
      switch kind {
      case "|": "(?:" + scalars.prefix(6000).joined(separator: "|") + ")+"
      case "": scalars.prefix(15_000).joined()
      default: kind + scalars.joined() + "\\p{L}&&[^\\p{N}]]+"
      }
    let start = WholeTextTests.threadSeconds()
    #expect(try matches(text, "x" + scalars.prefix(15_000).joined()).count == 1)
    #expect(WholeTextTests.threadSeconds() - start < 10)
  }

  @Test func expressionsOfTooManyPartsAreRefused() {
    let scalars = (0..<40_000).compactMap { Unicode.Scalar(0x4E00 + UInt32($0)).map(String.init) }
    #expect(throws: TokenizerError.self) { try Pattern(String(repeating: "a", count: 1 << 17)) }
    #expect(throws: TokenizerError.self) { try Pattern(scalars.prefix(2000).map { "[a\($0)]" }.joined()) }
    #expect(throws: TokenizerError.self) { try Pattern(scalars.joined()) }
  }

  @Test func everyPublishedKindCompiles() throws {
    for name in PreTokenizerKind.names {
      let kind = try #require(PreTokenizerKind.named(name))
      for pattern in kind.patterns { #expect(throws: Never.self, "\(name)") { try Pattern(pattern) } }
    }
    #expect(PreTokenizerKind.names.count > 70)
  }
}

@Suite struct UnicodeTests {
  @Test func setsAreWhatTheStandardLibrarySays() {
    // The library may know a newer Unicode; what is assigned here must agree.
    let letters = ScalarBitmap(UnicodeClasses.letter)
    let assigned = ScalarBitmap(UnicodeClasses.set([.Cn]).inverted)
    let letterCategories: Set<Unicode.GeneralCategory> = [
      .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter,
    ]
    for value in stride(from: UInt32(0), to: 0x20000, by: 7) where assigned.contains(value) {
      guard let scalar = Unicode.Scalar(value) else { continue }
      #expect(letters.contains(value) == letterCategories.contains(scalar.properties.generalCategory), "\(value)")
    }
    let whitespace = ScalarBitmap(UnicodeClasses.whitespace)
    for value in UInt32(0)..<0x4000 {
      guard let scalar = Unicode.Scalar(value) else { continue }
      #expect(whitespace.contains(value) == scalar.properties.isWhitespace)
    }
  }

  @Test func normalizationFormsAgreeWithFoundation() {
    for text in [
      "é", "e\u{301}", "q\u{307}\u{323}", "각", "\u{1100}\u{1161}\u{11A8}", "ﬁ①Å", "\u{1E9B}\u{323}", "\u{344}", "𝔘",
    ] {
      let bytes = Array(text.utf8)
      func expect(_ form: NormalizationForm, _ wanted: String) {
        #expect(form.apply(to: bytes) == Array(wanted.utf8), "\(text)")
      }
      expect(.nfc, text.precomposedStringWithCanonicalMapping)
      expect(.nfd, text.decomposedStringWithCanonicalMapping)
      expect(.nfkc, text.precomposedStringWithCompatibilityMapping)
      expect(.nfkd, text.decomposedStringWithCompatibilityMapping)
    }
    #expect(NormalizationForm.nfc.apply(to: [0xFF, 0x65, 0xCC, 0x81, 0xC3]) == [0xFF, 0xC3, 0xA9, 0xC3])
  }

  @Test func scalarsAreFoundFromBothSides() {
    let bytes: [UInt8] = [
      0x61, 0xC3, 0xA9, 0xE4, 0xB8, 0xF0, 0x9F, 0x98, 0x80, 0xED, 0xA0, 0x80, 0x80, 0xF4, 0x90, 0x80, 0x80,
    ]
    let scalars = UTF8Scalar.all(bytes)
    #expect(scalars.prefix(2) == [0x61, 0xE9] && scalars[4] == 0x1F600 && scalars.count == 13)
    bytes.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      var (forward, backward): ([Int], [Int]) = ([], [])
      var place = 0
      while place < buffer.count {
        forward.append(place)
        place += UTF8Scalar.decode(base, place, buffer.count).length
      }
      while place > 0 {
        place = UTF8Scalar.previous(base, place, 0)
        backward.append(place)
      }
      #expect(forward == backward.reversed())
    }
    var back: [UInt8] = []
    for scalar in scalars { UTF8Scalar.append(scalar, to: &back) }
    #expect(back == bytes)
  }
}
