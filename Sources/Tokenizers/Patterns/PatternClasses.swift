/// Classes of characters: `[…]` and escapes.
extension PatternParser {
  /// The rest of a class whose `[` has been taken.
  mutating func characterClass(_ ignoresCase: Bool, depth: Int = 0) throws -> ScalarSet {
    if depth > 20 { throw error("classes are nested too deep") }
    let isNegative = take("^")
    // What parts before a && have in common; nil before the first.
    var common: ScalarSet?
    var union = ScalarSetUnion()
    func part() -> ScalarSet {
      let set = ignoresCase ? union.set.foldingCase : union.set
      return common?.intersection(set) ?? set
    }
    // A ] right behind the opening is text.
    if next == "]" { union.add(ScalarSet(try takeAny().value)) }
    while !take("]") {
      if take("&&") {
        common = part()
        union = ScalarSetUnion()
      } else {
        union.add(try item(ignoresCase, depth))
      }
    }
    return isNegative ? part().inverted : part()
  }

  private mutating func item(_ ignoresCase: Bool, _ depth: Int) throws -> ScalarSet {
    if take("[:") { return try posix() }
    if take("[") { return try characterClass(ignoresCase, depth: depth + 1) }
    let scalar = try takeAny()
    let first = scalar == "\\" ? try escape(inClass: true) : ScalarSet(scalar.value)
    guard next == "-", let after = nextButOne, after != "]", let low = first.single else { return first }
    let start = self
    _ = take("-")
    if take("[") {
      self = start
      return first
    }
    let upper = try takeAny()
    let last = upper == "\\" ? try escape(inClass: true) : ScalarSet(upper.value)
    guard let high = last.single else { return first.union(ScalarSet("-")).union(last) }
    guard low <= high else { throw error("a range in a class is the wrong way round") }
    return ScalarSet(low...high)
  }

  private mutating func posix() throws -> ScalarSet {
    let isNegative = take("^")
    var name = ""
    while !take(":]") { name.unicodeScalars.append(try takeAny()) }
    guard let set = UnicodeClasses.named(name) else { throw error("there is no class [:\(name):]") }
    return isNegative ? set.inverted : set
  }

  /// What an escape stands for, its backslash taken.
  mutating func escape(inClass: Bool = false) throws -> ScalarSet {
    let scalar = try takeAny()
    if let set = Self.sets[scalar] { return set }
    if let value = Self.characters[scalar] { return ScalarSet(value) }
    switch scalar {
    case "p", "P": return try property(negative: scalar == "P")
    case "x": return ScalarSet(try take("{") ? hexadecimal(until: "}") : hexadecimal(digits: 2))
    case "u": return ScalarSet(try hexadecimal(digits: 4))
    case "b" where inClass: return ScalarSet(8)
    case "0": return ScalarSet(0)
    case "1"..."9", "g", "k", "K", "G", "R", "X", "N", "O", "y", "Y":
      throw error("the escape \\\(scalar) is not supported")
    default: return ScalarSet(scalar.value)
    }
  }

  private static let sets: [Unicode.Scalar: ScalarSet] = [
    "s": UnicodeClasses.whitespace, "S": UnicodeClasses.whitespace.inverted,
    "d": UnicodeClasses.digit, "D": UnicodeClasses.digit.inverted,
    "w": UnicodeClasses.word, "W": UnicodeClasses.word.inverted,
    "h": UnicodeClasses.hexadecimal, "H": UnicodeClasses.hexadecimal.inverted,
  ]

  private static let characters: [Unicode.Scalar: UInt32] = [
    "n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "a": 7, "e": 27,
  ]

  /// `\p{L}`, `\p{^L}`, `\pL`.
  private mutating func property(negative: Bool) throws -> ScalarSet {
    var name = ""
    var isNegative = negative
    if take("{") {
      if take("^") { isNegative.toggle() }
      while !take("}") { name.unicodeScalars.append(try takeAny()) }
    } else {
      name.unicodeScalars.append(try takeAny())
    }
    // Expressions name the same few properties over and over.
    let key = isNegative ? "^" + name : name
    if let set = properties[key] { return set }
    let value = name.split(separator: "=", omittingEmptySubsequences: false).last.map(String.init) ?? name
    guard let set = UnicodeClasses.named(value) else { throw error("there is no property \\p{\(name)}") }
    properties[key] = isNegative ? set.inverted : set
    return isNegative ? set.inverted : set
  }

  private mutating func hexadecimal(digits: Int) throws -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<digits {
      guard let scalar = next, let digit = Character(scalar).hexDigitValue else { break }
      value = value << 4 | UInt32(digit)
      _ = try takeAny()
    }
    return value
  }

  private mutating func hexadecimal(until end: String) throws -> UInt32 {
    var value: UInt32 = 0
    while !take(end) {
      guard let digit = Character(try takeAny()).hexDigitValue, value < 0x110000 else {
        throw error("a hexadecimal number was expected")
      }
      value = value << 4 | UInt32(digit)
    }
    guard value < 0x110000 else { throw error("a hexadecimal number is too large") }
    return value
  }
}
