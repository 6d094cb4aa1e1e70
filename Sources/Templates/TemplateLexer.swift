/// A template cut into text, tags and the tokens inside tags.
///
/// White space as chat templates expect it (Jinja with `trim_blocks` and `lstrip_blocks`): the line break after a block
/// or comment goes, and so do the blanks before one that begins its line; `-` at either side of a tag takes all white
/// space there, `+` keeps it. One line break at the end of the template goes.
struct TemplateLexer {
  /// One token, with the line it stands on.
  struct Token: Sendable {
    enum Kind: Sendable, Equatable {
      case text(String)
      case blockBegin, blockEnd, outputBegin, outputEnd
      case name(String), string(String), integer(Int), double(Double), symbol(String)
      case end
    }
    var kind: Kind
    var line: Int
  }

  private let source: [Unicode.Scalar]
  private var at = 0
  private var line = 1
  private var tokens: [Token] = []
  /// Whether the text that follows begins a line.
  private var beginsLine = true

  /// - Throws: `TemplateError` for tags, strings and numbers that do not end or are none.
  static func tokens(of template: String) throws -> [Token] {
    var lexer = TemplateLexer(template)
    try lexer.run()
    return lexer.tokens
  }

  private init(_ template: String) {
    var scalars: [Unicode.Scalar] = []
    scalars.reserveCapacity(template.utf8.count)
    for scalar in template.unicodeScalars {
      if scalar == "\n", scalars.last == "\r" { scalars.removeLast() }
      scalars.append(scalar)
    }
    source = scalars.map { $0 == "\r" ? "\n" : $0 }.droppingLastNewline()
  }

  private func error(_ problem: String) -> TemplateError { TemplateError(problem, line: line) }

  private func matches(_ text: String, at position: Int) -> Bool {
    var index = position
    for scalar in text.unicodeScalars {
      guard index < source.count, source[index] == scalar else { return false }
      index += 1
    }
    return true
  }

  private mutating func advance(to position: Int) {
    while at < position {
      if source[at] == "\n" { line += 1 }
      at += 1
    }
  }

  private mutating func emit(_ kind: Token.Kind) { tokens.append(Token(kind: kind, line: line)) }

  private mutating func run() throws {
    while at < source.count {
      let begin = (at..<source.count).first { position in
        source[position] == "{" && position + 1 < source.count && ["{", "%", "#"].contains(source[position + 1])
      }
      guard let begin else {
        emitText(source[at...])
        at = source.count
        break
      }
      try tag(at: begin)
    }
    emit(.end)
  }

  private mutating func emitText(_ scalars: ArraySlice<Unicode.Scalar>) {
    if scalars.isEmpty { return }
    var text = String.UnicodeScalarView()
    text.append(contentsOf: scalars)
    emit(.text(String(text)))
  }

  /// The text before a tag, then the tag.
  private mutating func tag(at begin: Int) throws {
    let kind = source[begin + 1]
    var text = source[at..<begin]
    let sign = begin + 2 < source.count ? source[begin + 2] : " "
    if sign == "-" {
      while let last = text.last, last.isTemplateSpace { text.removeLast() }
    } else if sign != "+", kind != "{" {
      let blanks = text.reversed().prefix { $0 != "\n" && $0.isTemplateSpace }.count
      let isLineStart = blanks == text.count ? beginsLine : text[text.endIndex - blanks - 1] == "\n"
      if isLineStart { text.removeLast(blanks) }
    }
    emitText(text)
    advance(to: begin + 2 + (sign == "-" || (sign == "+" && kind != "{") ? 1 : 0))
    switch kind {
    case "#": try comment()
    case "{": try inside(.outputBegin, .outputEnd, "}}", isBlock: false)
    default:
      if try raw() { return }
      try inside(.blockBegin, .blockEnd, "%}", isBlock: true)
    }
  }

  private mutating func comment() throws {
    guard let end = (at..<source.count).first(where: { matches("#}", at: $0) }) else {
      throw error("a comment has no end '#}'")
    }
    let sign = end > at ? source[end - 1] : " "
    advance(to: end + 2)
    closeTag(sign: sign, isBlock: true)
  }

  /// What white space goes after a tag.
  private mutating func closeTag(sign: Unicode.Scalar, isBlock: Bool) {
    let start = at
    if sign == "-" {
      var end = at
      while end < source.count, source[end].isTemplateSpace { end += 1 }
      advance(to: end)
    } else if isBlock, sign != "+", at < source.count, source[at] == "\n" {
      advance(to: at + 1)
    }
    beginsLine = at > start && source[at - 1] == "\n"
  }

  /// `{% raw %}` … `{% endraw %}`: text as it stands. Called behind `{%`.
  private mutating func raw() throws -> Bool {
    func word(_ word: String, from position: Int) -> Int? {
      var index = position
      if index < source.count, source[index] == "-" || source[index] == "+" { index += 1 }
      while index < source.count, source[index].isTemplateSpace { index += 1 }
      guard matches(word, at: index) else { return nil }
      index += word.unicodeScalars.count
      while index < source.count, source[index].isTemplateSpace { index += 1 }
      if index < source.count, source[index] == "-" || source[index] == "+" { index += 1 }
      return matches("%}", at: index) ? index + 2 : nil
    }
    guard let open = word("raw", from: at) else { return false }
    advance(to: open)
    closeTag(sign: source[open - 3], isBlock: true)
    for position in at..<source.count where matches("{%", at: position) {
      guard let close = word("endraw", from: position + 2) else { continue }
      var text = source[at..<position]
      if source[position + 2] == "-" { while let last = text.last, last.isTemplateSpace { text.removeLast() } }
      emitText(text)
      advance(to: close)
      closeTag(sign: source[close - 3], isBlock: true)
      return true
    }
    throw error("'raw' has no 'endraw'")
  }

  /// The tokens of a tag up to its end. Braces of dictionaries are counted, so that `}}` of one does not end the tag.
  private mutating func inside(_ begin: Token.Kind, _ end: Token.Kind, _ mark: String, isBlock: Bool) throws {
    emit(begin)
    var depth = 0
    while true {
      while at < source.count, source[at].isTemplateSpace { advance(to: at + 1) }
      guard at < source.count else { throw error("a tag has no end '\(mark)'") }
      if depth == 0 {
        let signed = source[at] == "-" || (isBlock && source[at] == "+")
        if matches(mark, at: at + (signed ? 1 : 0)) {
          let sign = signed ? source[at] : " "
          emit(end)
          advance(to: at + (signed ? 3 : 2))
          closeTag(sign: sign, isBlock: isBlock)
          return
        }
      }
      try token(&depth)
    }
  }

  private static let symbols = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ",",
    ":",
    ".", "|",
  ]

  private mutating func token(_ depth: inout Int) throws {
    let first = source[at]
    if first == "\"" || first == "'" { return try string(first) }
    if first.properties.isXIDStart || first == "_" {
      let end =
        (at..<source.count).first { !(source[$0].properties.isXIDContinue || source[$0] == "_") } ?? source.count
      emit(.name(text(at..<end)))
      return advance(to: end)
    }
    if ("0"..."9").contains(first) { return try number() }
    guard let symbol = Self.symbols.first(where: { matches($0, at: at) }) else {
      throw error("there is an unexpected '\(first)' in a tag")
    }
    if ["(", "[", "{"].contains(symbol) { depth += 1 }
    if [")", "]", "}"].contains(symbol) { depth -= 1 }
    if depth < 0 { throw error("a '\(symbol)' closes nothing") }
    emit(.symbol(symbol))
    advance(to: at + symbol.unicodeScalars.count)
  }

  private func text(_ range: Range<Int>) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: source[range])
    return String(view)
  }

  private mutating func number() throws {
    func digits(from position: Int) -> Int {
      var end = position
      while end < source.count, ("0"..."9").contains(source[end]) || source[end] == "_" { end += 1 }
      return end
    }
    var end = digits(from: at)
    var isWhole = true
    if end + 1 < source.count, source[end] == ".", ("0"..."9").contains(source[end + 1]) {
      isWhole = false
      end = digits(from: end + 1)
    }
    if end + 1 < source.count, source[end] == "e" || source[end] == "E" {
      let signed = source[end + 1] == "-" || source[end + 1] == "+" ? 2 : 1
      if end + signed < source.count, ("0"..."9").contains(source[end + signed]) {
        isWhole = false
        end = digits(from: end + signed)
      }
    }
    let written = text(at..<end).filter { $0 != "_" }
    if isWhole, let value = Int(written) {
      emit(.integer(value))
    } else if let value = Double(written), value.isFinite {
      emit(.double(value))
    } else {
      throw error("the number \(written) is too large")
    }
    advance(to: end)
  }

  private mutating func string(_ quote: Unicode.Scalar) throws {
    var index = at + 1
    var value = String.UnicodeScalarView()
    while index < source.count, source[index] != quote {
      if source[index] == "\\" {
        guard let (scalar, next) = escape(at: index + 1) else { throw error("an escape in a text is unknown") }
        if let scalar { value.append(scalar) } else { value.append(contentsOf: source[index..<next]) }
        index = next
      } else {
        value.append(source[index])
        index += 1
      }
    }
    guard index < source.count else { throw error("a text has no closing quote") }
    emit(.string(String(value)))
    advance(to: index + 1)
  }

  private static let escapes: [Unicode.Scalar: Unicode.Scalar] = [
    "n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", "\"": "\"", "0": "\0", "a": "\u{7}", "b": "\u{8}",
    "f": "\u{C}",
    "v": "\u{B}",
  ]

  /// The scalar that an escape stands for, nil for one that stands for itself, and where the text goes on.
  private func escape(at index: Int) -> (Unicode.Scalar?, Int)? {
    guard index < source.count else { return nil }
    if let simple = Self.escapes[source[index]] { return (simple, index + 1) }
    let lengths: [Unicode.Scalar: Int] = ["x": 2, "u": 4, "U": 8]
    guard let length = lengths[source[index]] else { return (nil, index + 1) }
    let end = index + 1 + length
    guard end <= source.count, let code = UInt32(text(index + 1..<end), radix: 16), let scalar = Unicode.Scalar(code)
    else { return nil }
    return (scalar, end)
  }
}

extension [Unicode.Scalar] {
  fileprivate func droppingLastNewline() -> [Unicode.Scalar] { last == "\n" ? Array(dropLast()) : self }
}

extension Unicode.Scalar {
  /// What Python's `str.isspace` calls white space.
  var isTemplateSpace: Bool {
    properties.isWhitespace || ("\u{1C}"..."\u{1F}").contains(self)
  }
}
