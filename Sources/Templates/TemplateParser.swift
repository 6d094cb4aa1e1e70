/// Reads the tags of a template. Expressions are read by `TemplateParser+Expressions.swift`.
struct TemplateParser {
  private let tokens: [TemplateLexer.Token]
  private var at = 0
  /// Nesting of tags and of expressions, so that no template can exhaust the stack.
  var depth = 0
  static let deepest = 60
  /// Operators, members and filters of the tag at hand: each is a level of the expression that is made of them.
  private var links = 0
  private static let mostLinks = 300

  /// - Throws: `TemplateError` that names the line.
  static func parse(_ template: String) throws -> [Statement] {
    var parser = TemplateParser(tokens: try TemplateLexer.tokens(of: template))
    let (statements, end) = try parser.statements(until: [])
    guard end == nil else { throw parser.error("'\(end ?? "")' ends nothing") }
    return statements
  }

  private init(tokens: [TemplateLexer.Token]) { self.tokens = tokens }

  // MARK: Tokens

  var kind: TemplateLexer.Token.Kind { tokens[at].kind }
  var nextKind: TemplateLexer.Token.Kind { at + 1 < tokens.count ? tokens[at + 1].kind : .end }
  var line: Int { tokens[at].line }

  func error(_ problem: String) -> TemplateError { TemplateError(problem, line: line) }

  mutating func advance() { if at + 1 < tokens.count { at += 1 } }

  mutating func take(_ symbol: String) -> Bool {
    guard kind == .symbol(symbol) else { return false }
    advance()
    return true
  }

  mutating func take(word: String) -> Bool {
    guard kind == .name(word) else { return false }
    advance()
    return true
  }

  mutating func expect(_ symbol: String) throws {
    guard take(symbol) else { throw error("'\(symbol)' was expected") }
  }

  mutating func expect(_ wanted: TemplateLexer.Token.Kind, _ what: String) throws {
    guard kind == wanted else { throw error("\(what) was expected") }
    advance()
  }

  mutating func name() throws -> String {
    guard case .name(let name) = kind else { throw error("a name was expected") }
    advance()
    return name
  }

  /// Counts one more operator, member or filter in a tag.
  mutating func link() throws {
    links += 1
    if links > Self.mostLinks { throw error("a tag has more than \(Self.mostLinks) operators") }
  }

  mutating func nested<Result>(_ body: (inout TemplateParser) throws -> Result) throws -> Result {
    guard depth < Self.deepest else { throw error("tags and expressions are nested more than \(Self.deepest) deep") }
    depth += 1
    defer { depth -= 1 }
    return try body(&self)
  }

  // MARK: Tags

  /// Statements up to a tag named in `ends`, whose name is returned with its `{%` and name read; nil at the template's end.
  private mutating func statements(until ends: Set<String>) throws -> ([Statement], String?) {
    var found: [Statement] = []
    while true {
      let line = line
      links = 0
      switch kind {
      case .end:
        guard ends.isEmpty else {
          throw error("the template ends before '\(ends.sorted().joined(separator: "' or '"))'")
        }
        return (found, nil)
      case .text(let text):
        advance()
        found.append(Statement(kind: .text(text), line: line))
      case .outputBegin:
        advance()
        let value = try expression()
        try expect(.outputEnd, "'}}'")
        found.append(Statement(kind: .output(value), line: line))
      case .blockBegin:
        advance()
        let word = try name()
        if ends.contains(word) { return (found, word) }
        guard let read = Self.tags[word] else { throw error("there is no tag '\(word)' here") }
        found.append(Statement(kind: try nested { try read(&$0) }, line: line))
      default:
        throw error("a tag or text was expected")
      }
    }
  }

  private mutating func body(until ends: String...) throws -> ([Statement], String) {
    try closeTag()
    let (statements, end) = try statements(until: Set(ends))
    return (statements, end ?? "")
  }

  private mutating func closeTag() throws { try expect(.blockEnd, "'%}'") }

  /// What reads each tag, behind its name.
  private static let tags: [String: @Sendable (inout TemplateParser) throws -> Statement.Kind] = [
    "if": { try $0.branches() },
    "for": { try $0.loop() },
    "set": { try $0.set() },
    "macro": { try $0.macro() },
    "call": { try $0.call() },
    "filter": { try $0.filtered() },
    "with": { try $0.scope() },
    "generation": { parser in
      let (statements, _) = try parser.body(until: "endgeneration")
      try parser.closeTag()
      return .group(statements)
    },
    "break": { parser in
      try parser.closeTag()
      return .breakLoop
    },
    "continue": { parser in
      try parser.closeTag()
      return .continueLoop
    },
  ]

  private mutating func branches() throws -> Statement.Kind {
    var found: [(condition: Expression, body: [Statement])] = []
    var condition = try expression()
    while true {
      let (statements, end) = try body(until: "elif", "else", "endif")
      found.append((condition, statements))
      if end == "elif" {
        condition = try expression()
        continue
      }
      var otherwise: [Statement] = []
      if end == "else" { (otherwise, _) = try body(until: "endif") }
      try closeTag()
      return .branches(found, otherwise: otherwise)
    }
  }

  private mutating func loop() throws -> Statement.Kind {
    let target = try target()
    guard take(word: "in") else { throw error("'in' was expected") }
    // A bare `if` behind the sequence filters it; it does not begin a conditional expression.
    let sequence = try either()
    let condition = take(word: "if") ? try expression() : nil
    _ = take(word: "recursive")
    let (statements, end) = try body(until: "else", "endfor")
    var otherwise: [Statement] = []
    if end == "else" { (otherwise, _) = try body(until: "endfor") }
    try closeTag()
    return .loop(
      Statement.Loop(target: target, sequence: sequence, condition: condition, body: statements, otherwise: otherwise))
  }

  private mutating func target() throws -> Statement.Target {
    let isWrapped = take("(")
    let first = try name()
    if !isWrapped, take(".") { return .member(first, try name()) }
    var names = [first]
    while take(",") { names.append(try name()) }
    if isWrapped { try expect(")") }
    return names.count == 1 ? .name(first) : .names(names)
  }

  private mutating func set() throws -> Statement.Kind {
    let target = try target()
    if take("=") {
      let value = try expressionOrTuple()
      try closeTag()
      return .assignment(target, value)
    }
    guard case .name(let name) = target else { throw error("'=' was expected") }
    let filters = try filters()
    let (statements, _) = try body(until: "endset")
    try closeTag()
    return .capture(name, filters: filters, statements)
  }

  private mutating func filters() throws -> [(name: String, arguments: Expression.Arguments)] {
    var found: [(name: String, arguments: Expression.Arguments)] = []
    while take("|") { found.append((try name(), kind == .symbol("(") ? try arguments() : .init())) }
    return found
  }

  private mutating func filtered() throws -> Statement.Kind {
    var found = [(name: try name(), arguments: kind == .symbol("(") ? try arguments() : .init())]
    found += try filters()
    let (statements, _) = try body(until: "endfilter")
    try closeTag()
    return .filtered(found, statements)
  }

  private mutating func scope() throws -> Statement.Kind {
    var values: [(name: String, value: Expression)] = []
    while kind != .blockEnd {
      let name = try name()
      try expect("=")
      values.append((name, try expression()))
      if !take(",") { break }
    }
    let (statements, _) = try body(until: "endwith")
    try closeTag()
    return .scope(values, statements)
  }

  private mutating func parameters() throws -> [(name: String, initial: Expression?)] {
    var found: [(name: String, initial: Expression?)] = []
    guard take("(") else { return found }
    while !take(")") {
      let name = try name()
      found.append((name, take("=") ? try expression() : nil))
      if kind != .symbol(")") { try expect(",") }
    }
    return found
  }

  private mutating func macro() throws -> Statement.Kind {
    let name = try name()
    let parameters = try parameters()
    let (statements, _) = try body(until: "endmacro")
    try closeTag()
    return .macro(Statement.Macro(name: name, parameters: parameters, body: statements))
  }

  private mutating func call() throws -> Statement.Kind {
    let parameters = try parameters()
    let callee = try expression()
    let (statements, _) = try body(until: "endcall")
    try closeTag()
    return .call(callee, Statement.Macro(name: "caller", parameters: parameters, body: statements))
  }
}
