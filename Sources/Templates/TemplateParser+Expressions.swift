extension TemplateParser {
  /// a if b else c, the loosest of all.
  mutating func expression() throws -> Expression {
    try nested { parser in
      let value = try parser.either()
      guard parser.take(word: "if") else { return value }
      let condition = try parser.either()
      let otherwise = parser.take(word: "else") ? try parser.expression() : nil
      return .conditional(condition, then: value, otherwise: otherwise)
    }
  }

  /// `a, b` without brackets is a tuple too.
  mutating func expressionOrTuple() throws -> Expression {
    let first = try expression()
    guard kind == .symbol(",") else { return first }
    var values = [first]
    while take(",") {
      if kind == .blockEnd { break }
      values.append(try expression())
    }
    return .tuple(values)
  }

  mutating func either() throws -> Expression {
    var value = try both()
    while take(word: "or") {
      try link()
      value = .either(value, try both())
    }
    return value
  }

  private mutating func both() throws -> Expression {
    var value = try negation()
    while take(word: "and") {
      try link()
      value = .both(value, try negation())
    }
    return value
  }

  private mutating func negation() throws -> Expression {
    guard take(word: "not") else { return try comparison() }
    return .negation(try nested { try $0.negation() })
  }

  private mutating func comparison() throws -> Expression {
    let first = try sum()
    var rest: [(operation: String, operand: Expression)] = []
    while let operation = comparisonOperator() { rest.append((operation, try sum())) }
    return rest.isEmpty ? first : .comparison(first, rest)
  }

  private mutating func comparisonOperator() -> String? {
    for symbol in ["==", "!=", "<=", ">=", "<", ">"] where take(symbol) { return symbol }
    if take(word: "in") { return "in" }
    if kind == .name("not"), nextKind == .name("in") {
      advance()
      advance()
      return "not in"
    }
    return nil
  }

  /// Operators that read from the left, loosest first: each level's operands are the next one's expressions.
  private mutating func leftToRight(
    _ symbols: [String], _ operand: (inout TemplateParser) throws -> Expression
  ) throws -> Expression {
    var value = try operand(&self)
    while case .symbol(let symbol) = kind, symbols.contains(symbol) {
      try link()
      advance()
      value = .operation(symbol, value, try operand(&self))
    }
    return value
  }

  private mutating func sum() throws -> Expression {
    try leftToRight(["+", "-"]) { try $0.concatenation() }
  }

  private mutating func concatenation() throws -> Expression {
    try leftToRight(["~"]) { try $0.product() }
  }

  private mutating func product() throws -> Expression {
    try leftToRight(["*", "/", "//", "%"]) { try $0.power() }
  }

  private mutating func power() throws -> Expression {
    var value = try unary()
    while take("**") {
      try link()
      value = .operation("**", value, try unary())
    }
    return value
  }

  /// A filter or test behind a signed value takes the whole of it.
  private mutating func unary() throws -> Expression {
    var value = try signed()
    while true {
      try link()
      if take("|") {
        let name = try name()
        value = .filter(value, name, kind == .symbol("(") ? try arguments() : .init())
      } else if take(word: "is") {
        value = try test(of: value)
      } else {
        return value
      }
    }
  }

  private mutating func signed() throws -> Expression {
    if take("-") { return .minus(try nested { try $0.signed() }) }
    if take("+") { return try nested { try $0.signed() } }
    return try postfix()
  }

  private mutating func test(of value: Expression) throws -> Expression {
    let isNegated = take(word: "not")
    let name = try name()
    var found = Expression.Arguments()
    if kind == .symbol("(") {
      found = try arguments()
    } else if startsOperand {
      found.values = [try postfix()]
    }
    let test = Expression.test(value, name, found)
    return isNegated ? .negation(test) : test
  }

  /// Whether an argument of a test without brackets begins here (`x is divisibleby 3`).
  private var startsOperand: Bool {
    switch kind {
    case .string, .integer, .double, .symbol("["), .symbol("{"): true
    case .name(let word): !["else", "and", "or", "not", "if", "is", "in", "recursive"].contains(word)
    default: false
    }
  }

  private mutating func postfix() throws -> Expression {
    var value = try primary()
    while true {
      try link()
      if take(".") {
        if case .integer(let index) = kind {
          advance()
          value = .index(value, .literal(.integer(index)))
        } else {
          value = .attribute(value, try name())
        }
      } else if take("[") {
        value = try subscripted(value)
      } else if kind == .symbol("(") {
        value = .call(value, try arguments())
      } else {
        return value
      }
    }
  }

  private mutating func subscripted(_ value: Expression) throws -> Expression {
    func part(_ parser: inout TemplateParser) throws -> Expression? {
      parser.kind == .symbol(":") || parser.kind == .symbol("]") ? nil : try parser.expression()
    }
    let first = try part(&self)
    guard take(":") else {
      guard let first else { throw error("an index was expected") }
      try expect("]")
      return .index(value, first)
    }
    let second = try part(&self)
    let third = take(":") ? try part(&self) : nil
    try expect("]")
    return .slice(value, from: first, to: second, by: third)
  }

  mutating func arguments() throws -> Expression.Arguments {
    try expect("(")
    var found = Expression.Arguments()
    while !take(")") {
      if case .name(let name) = kind, nextKind == .symbol("=") {
        advance()
        advance()
        found.named.append((name, try expression()))
      } else {
        guard found.named.isEmpty else { throw error("an argument without a name follows one with a name") }
        found.values.append(try expression())
      }
      if kind != .symbol(")") { try expect(",") }
    }
    return found
  }

  private static let constants: [String: Expression.Literal] = [
    "true": .bool(true), "True": .bool(true), "false": .bool(false), "False": .bool(false), "none": .none,
    "None": .none,
  ]

  private mutating func primary() throws -> Expression {
    let kind = kind
    switch kind {
    case .name(let word):
      advance()
      return Self.constants[word].map { .literal($0) } ?? .name(word)
    case .integer(let value):
      advance()
      return .literal(.integer(value))
    case .double(let value):
      advance()
      return .literal(.double(value))
    case .string(var text):
      advance()
      // Neighbouring texts are one.
      while case .string(let more) = self.kind {
        advance()
        text += more
      }
      return .literal(.text(text))
    case .symbol("("): return try bracketed()
    case .symbol("["):
      advance()
      return .list(try elements(until: "]"))
    case .symbol("{"): return try dictionary()
    default: throw error("an expression was expected")
    }
  }

  private mutating func elements(until end: String) throws -> [Expression] {
    var values: [Expression] = []
    while !take(end) {
      values.append(try expression())
      if kind != .symbol(end) { try expect(",") }
    }
    return values
  }

  /// (a) is a; (a, b), (a,) and () are tuples.
  private mutating func bracketed() throws -> Expression {
    advance()
    if take(")") { return .tuple([]) }
    let first = try expression()
    if take(")") { return first }
    try expect(",")
    return .tuple([first] + (try elements(until: ")")))
  }

  private mutating func dictionary() throws -> Expression {
    advance()
    var pairs: [(key: Expression, value: Expression)] = []
    while !take("}") {
      let key = try expression()
      try expect(":")
      pairs.append((key, try expression()))
      if kind != .symbol("}") { try expect(",") }
    }
    return .dictionary(pairs)
  }
}
