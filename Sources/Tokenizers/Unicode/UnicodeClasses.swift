/// General categories, in the order of the letters of `CategoryData`.
enum UnicodeCategory: Int, CaseIterable {
  case Lu, Ll, Lt, Lm, Lo, Mn, Mc, Me, Nd, Nl, No, Pc, Pd, Ps, Pe, Pi, Pf, Po, Sm, Sc, Sk, So, Zs, Zl, Zp, Cc, Cf, Cs,
    Co
  case Cn
}

/// Sets of scalars by their Unicode properties.
enum UnicodeClasses {
  private static let categories: [[Range<UInt32>]] = {
    var ranges = [[Range<UInt32>]](repeating: [], count: UnicodeCategory.allCases.count)
    var start: UInt32 = 0
    var reader = CodedTable(CategoryData.runs)
    while let letter = reader.next() {
      let length = reader.number() ?? 1
      guard let category = CodedTable.letters.firstIndex(of: letter) else { continue }
      ranges[category].append(start..<start + length)
      start += length
    }
    return ranges
  }()

  /// The union of some categories. Invalid bytes are in none.
  static func set(_ wanted: [UnicodeCategory]) -> ScalarSet {
    ScalarSet(unsorted: wanted.flatMap { categories[$0.rawValue] })
  }

  /// The set of a general category (`Lu`), of a group of them (`L`), of a property or of a script (`Han`), as `\p{…}`
  /// names them: case, spaces, hyphens and underscores do not count.
  static func named(_ name: String) -> ScalarSet? {
    let key = plain(name)
    let matching = UnicodeCategory.allCases.filter { plain("\($0)") == key || plain("\($0)").prefix(1) == key }
    if !matching.isEmpty { return set(matching) }
    if key == "l&" || key == "lc" { return set([.Lu, .Ll, .Lt]) }
    if let long = longNames[key] { return set(UnicodeCategory.allCases.filter { "\($0)".hasPrefix(long) }) }
    return properties[key] ?? UnicodeScripts.set(named: key)
  }

  static func plain(_ name: String) -> String {
    String(name.lowercased().filter { $0 != "_" && $0 != " " && $0 != "-" })
  }

  private static let longNames: [String: String] = [
    "letter": "L", "mark": "M", "number": "N", "punctuation": "P", "symbol": "S", "separator": "Z", "other": "C",
    "uppercaseletter": "Lu", "lowercaseletter": "Ll", "titlecaseletter": "Lt", "modifierletter": "Lm",
    "otherletter": "Lo", "nonspacingmark": "Mn", "spacingmark": "Mc", "enclosingmark": "Me", "decimalnumber": "Nd",
    "letternumber": "Nl", "othernumber": "No", "mathsymbol": "Sm", "currencysymbol": "Sc", "control": "Cc",
    "format": "Cf", "unassigned": "Cn", "spaceseparator": "Zs",
  ]

  private static let properties: [String: ScalarSet] = [
    "any": ScalarSet(0...0x10FFFF), "assigned": set([.Cn]).inverted, "ascii": ScalarSet(0...0x7F),
    "whitespace": whitespace, "space": whitespace, "alpha": alphabetic, "alphabetic": alphabetic, "word": word,
    "digit": digit, "alnum": alphabetic.union(digit),
    "punct": punctuation.union(set([.Sm, .Sc, .Sk, .So])),
    "upper": uppercase, "uppercase": uppercase, "lower": lowercase, "lowercase": lowercase,
    "cntrl": set([.Cc]), "xdigit": hexadecimal, "blank": set([.Zs]).union(ScalarSet(9)),
  ]

  /// White_Space.
  static let whitespace = ScalarSet(unsorted: [
    0x09..<0x0E, 0x20..<0x21, 0x85..<0x86, 0xA0..<0xA1, 0x1680..<0x1681, 0x2000..<0x200B, 0x2028..<0x202A,
    0x202F..<0x2030, 0x205F..<0x2060, 0x3000..<0x3001,
  ])
  static let digit = set([.Nd])
  static let hexadecimal = ScalarSet("0123456789abcdefABCDEF")
  static let asciiSymbols = ScalarSet("$+<=>^`|~")
  /// Nd, Nl, No.
  static let numeric = set([.Nd, .Nl, .No])
  static let letter = set([.Lu, .Ll, .Lt, .Lm, .Lo])
  static let mark = set([.Mn, .Mc, .Me])
  static let punctuation = set([.Pc, .Pd, .Ps, .Pe, .Pi, .Pf, .Po])
  /// What BERT takes for punctuation: P*, and all of ASCII that is neither letter, digit, space nor control.
  static let bertPunctuation = punctuation.union(asciiSymbols).symmetricDifference(
    .coded(LibraryData.punctuation))
  private static let uppercase = set([.Lu]).union(circledLetters)
  private static let lowercase = set([.Ll])
  private static let circledLetters = ScalarSet(unsorted: [
    0x24B6..<0x24EA, 0x1F130..<0x1F14A, 0x1F150..<0x1F16A, 0x1F170..<0x1F18A,
  ])
  private static let alphabetic = letter.union(set([.Nl])).union(circledLetters)
  private static let letterLike = letter.union(mark).union(set([.Nd, .Nl, .Pc])).union(circledLetters)
  /// `\w` as Oniguruma has it: letters, marks, decimal digits, connectors, what else is alphabetic, and of other numbers
  /// those of Latin-1 (² ³ ¹ ¼ ½ ¾).
  static let word = letterLike.union(ScalarSet("²³¹¼½¾"))
  /// `\w` as Unicode Technical Standard 18 and the regular expressions of Rust have it, with the two joiners.
  static let wordWithJoiners = letterLike.union(ScalarSet(0x200C...0x200D))
}

/// Reads the texts that Scripts/unicode/make_tables.py writes.
struct CodedTable {
  static let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ!$%&".utf8)
  private let text: UnsafeBufferPointer<UInt8>
  private var offset = 0

  init(_ text: StaticString) {
    self.text = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
  }

  var peek: UInt8? { offset < text.count ? text[offset] : nil }

  mutating func next() -> UInt8? {
    guard let byte = peek else { return nil }
    offset += 1
    return byte
  }

  /// Takes a byte if it is the next.
  mutating func take(_ byte: UInt8) -> Bool {
    guard peek == byte else { return false }
    offset += 1
    return true
  }

  /// A number in base 36, if there is one here.
  mutating func number() -> UInt32? {
    var value: UInt32?
    while let byte = peek {
      let digit: UInt8
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "z"): digit = byte - UInt8(ascii: "a") + 10
      default: return value
      }
      value = (value ?? 0) &* 36 &+ UInt32(digit)
      offset += 1
    }
    return value
  }
}

extension ScalarSet {
  /// The set that a text of entries `gap,count` stands for.
  static func coded(_ text: StaticString) -> ScalarSet {
    var ranges: [Range<UInt32>] = []
    var reader = CodedTable(text)
    var start: UInt32 = 0
    while let gap = reader.number(), reader.take(UInt8(ascii: ",")), let count = reader.number() {
      start += gap
      ranges.append(start..<start + count)
      _ = reader.take(UInt8(ascii: " "))
    }
    return ScalarSet(unsorted: ranges)
  }
}

/// Scripts, for `\p{Han}` and the pre-tokenizer that cuts between scripts.
enum UnicodeScripts {
  static let names = "\(ScriptData.names)".split(separator: " ").map { UnicodeClasses.plain(String($0)) }

  /// (range, number of the script), in order.
  static let runs: [(range: Range<UInt32>, script: Int)] = {
    var runs: [(Range<UInt32>, Int)] = []
    var reader = CodedTable(ScriptData.runs)
    var start: UInt32 = 0
    while let gap = reader.number(), reader.take(UInt8(ascii: ",")), let count = reader.number(),
      reader.take(UInt8(ascii: ",")), let script = reader.number()
    {
      start += gap
      runs.append((start..<start + count, Int(script)))
      _ = reader.take(UInt8(ascii: " "))
    }
    return runs
  }()

  /// - Parameter named: a name without spaces, hyphens, underscores and capitals.
  static func set(named name: String) -> ScalarSet? {
    guard let script = names.firstIndex(of: name) else { return nil }
    return ScalarSet(unsorted: runs.filter { $0.script == script }.map(\.range))
  }
}
