/// Reads regular expressions as Oniguruma's Ruby syntax has them, which is what tokenizer.json files are written for.
///
/// Left out, with an error: back-references, conditions, subroutines, and looking behind by more than one character.
struct PatternParser {
  private let scalars: [Unicode.Scalar]
  private(set) var index = 0
  private let pattern: String
  private var ignoresCase = false
  private var dotMatchesNewline = false
  private var isExtended = false
  /// Properties that have been named so far, those excluded with a ^ in front.
  var properties: [String: ScalarSet] = [:]
  private var depth = 0
  private static let deepest = 100
  private static let mostRepeats = 1000
  private static let longest = 1 << 16

  static func parse(_ pattern: String) throws -> PatternNode {
    var parser = PatternParser(pattern)
    guard parser.scalars.count <= longest else {
      throw parser.error("it has \(parser.scalars.count) characters; at most \(longest) are read")
    }
    let node = try parser.alternatives()
    if parser.index < parser.scalars.count { throw parser.error("there is a ')' too many") }
    return node
  }

  private init(_ pattern: String) {
    self.pattern = pattern
    scalars = Array(pattern.unicodeScalars)
  }

  func error(_ problem: String) -> TokenizerError {
    TokenizerError("the regular expression \(pattern.prefix(200))", "\(problem), at character \(index)")
  }

  var next: Unicode.Scalar? { index < scalars.count ? scalars[index] : nil }

  /// The scalar after the next.
  var nextButOne: Unicode.Scalar? { index + 1 < scalars.count ? scalars[index + 1] : nil }

  mutating func take(_ text: String) -> Bool {
    let wanted = Array(text.unicodeScalars)
    guard index + wanted.count <= scalars.count, Array(scalars[index..<index + wanted.count]) == wanted else {
      return false
    }
    index += wanted.count
    return true
  }

  mutating func takeAny() throws -> Unicode.Scalar {
    guard let scalar = next else { throw error("it ends too early") }
    index += 1
    return scalar
  }

  // MARK: Structure

  private mutating func alternatives() throws -> PatternNode {
    depth += 1
    defer { depth -= 1 }
    if depth > Self.deepest { throw error("groups are nested more than \(Self.deepest) deep") }
    // Options set inside a group end with it.
    let options = (ignoresCase, dotMatchesNewline, isExtended)
    defer { (ignoresCase, dotMatchesNewline, isExtended) = options }
    var branches = [try sequence()]
    while take("|") { branches.append(try sequence()) }
    return branches.count == 1 ? branches[0] : .alternatives(branches)
  }

  private mutating func sequence() throws -> PatternNode {
    var nodes: [PatternNode] = []
    while let scalar = next, scalar != "|", scalar != ")" {
      if isExtended, skipSpaceAndComments() { continue }
      guard var node = try atom() else { continue }
      var stacked = 0
      while let quantified = try quantifier(node) {
        stacked += 1
        if stacked > 8 { throw error("quantifiers are stacked more than 8 deep") }
        node = quantified
      }
      nodes.append(node)
    }
    return nodes.count == 1 ? nodes[0] : .sequence(nodes)
  }

  private mutating func skipSpaceAndComments() -> Bool {
    guard let scalar = next else { return false }
    if scalar == "#" {
      while let other = next, other != "\n" { index += 1 }
      return true
    }
    guard scalar.properties.isWhitespace else { return false }
    index += 1
    return true
  }

  /// One thing that a quantifier can follow; nil for what only sets options.
  private mutating func atom() throws -> PatternNode? {
    let scalar = try takeAny()
    switch scalar {
    case "(": return try group()
    case "[": return .set(try characterClass(ignoresCase))
    case ".": return .set(dotMatchesNewline ? .all : ScalarSet(10).inverted)
    case "^": return .assertion(.lineStart)
    case "$": return .assertion(.lineEnd)
    case "\\":
      if let assertion = assertion() { return .assertion(assertion) }
      return .set(folded(try escape()))
    case "*", "+", "?": throw error("there is nothing for '\(scalar)' to repeat")
    default: return .set(folded(ScalarSet(scalar.value)))
    }
  }

  private func folded(_ set: ScalarSet) -> ScalarSet { ignoresCase ? set.foldingCase : set }

  private mutating func assertion() -> PatternNode.Assertion? {
    let letters: [Unicode.Scalar: PatternNode.Assertion] = [
      "A": .textStart, "z": .textEnd, "Z": .lastLineEnd, "b": .wordBoundary, "B": .noWordBoundary,
    ]
    guard let scalar = next, let assertion = letters[scalar] else { return nil }
    index += 1
    return assertion
  }

  private mutating func group() throws -> PatternNode? {
    guard take("?") else { return try closed(alternatives()) }
    if take(":") { return try closed(alternatives()) }
    if take("=") { return .ahead(try closed(alternatives()), negative: false) }
    if take("!") { return .ahead(try closed(alternatives()), negative: true) }
    if take(">") { return .atomic(try closed(alternatives())) }
    if take("<=") { return .behind(try behind(), negative: false) }
    if take("<!") { return .behind(try behind(), negative: true) }
    if take("#") {
      while try takeAny() != ")" {}
      return nil
    }
    if take("P<") || take("<") {
      while try takeAny() != ">" {}
      return try closed(alternatives())
    }
    return try options()
  }

  private mutating func behind() throws -> ScalarSet {
    guard let set = try closed(alternatives()).asSet else {
      throw error("looking behind works for one character only")
    }
    return set
  }

  private func closing() -> TokenizerError { error("a '(' has no ')'") }

  private mutating func closed(_ node: PatternNode) throws -> PatternNode {
    guard take(")") else { throw closing() }
    return node
  }

  /// `(?i)` for the rest of the group around it, `(?i:…)` for its own.
  private mutating func options() throws -> PatternNode? {
    let before = (ignoresCase, dotMatchesNewline, isExtended)
    var isOn = true
    while true {
      switch try takeAny() {
      case "i": ignoresCase = isOn
      case "m", "s": dotMatchesNewline = isOn
      case "x": isExtended = isOn
      case "u", "a", "d": break
      case "-": isOn = false
      case ")": return nil
      case ":":
        let node = try closed(alternatives())
        (ignoresCase, dotMatchesNewline, isExtended) = before
        return node
      default: throw error("this kind of group is not known")
      }
    }
  }

  // MARK: Quantifiers

  private mutating func quantifier(_ node: PatternNode) throws -> PatternNode? {
    let start = index
    guard let scalar = next else { return nil }
    var bounds: (least: Int, most: Int)?
    switch scalar {
    case "*": bounds = (0, PatternNode.unbounded)
    case "+": bounds = (1, PatternNode.unbounded)
    case "?": bounds = (0, 1)
    case "{": bounds = try counts()
    default: return nil
    }
    guard let bounds else {
      index = start
      return nil
    }
    if scalar != "{" { index += 1 }
    if take("?") { return .repeated(node, least: bounds.least, most: bounds.most, .lazy) }
    // In Ruby's syntax a + behind braces repeats once more instead.
    if scalar != "{", take("+") { return .repeated(node, least: bounds.least, most: bounds.most, .possessive) }
    return .repeated(node, least: bounds.least, most: bounds.most, .greedy)
  }

  /// `{n}`, `{n,}`, `{,m}`, `{n,m}`; nil when the braces are plain text.
  private mutating func counts() throws -> (least: Int, most: Int)? {
    index += 1
    let least = try number()
    var most = least
    if take(",") { most = try number() ?? PatternNode.unbounded } else if least == nil { return nil }
    guard take("}"), least != nil || most != PatternNode.unbounded else { return nil }
    guard let most, (least ?? 0) <= most else { throw error("the bounds in braces are the wrong way round") }
    return (least ?? 0, most)
  }

  private mutating func number() throws -> Int? {
    var value: Int?
    while let scalar = next, ("0"..."9").contains(scalar) {
      value = (value ?? 0) * 10 + Int(scalar.value - 48)
      if let value, value > Self.mostRepeats { throw error("more than \(Self.mostRepeats) repetitions are counted") }
      index += 1
    }
    return value
  }
}
