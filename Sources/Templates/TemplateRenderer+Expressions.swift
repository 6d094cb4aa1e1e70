extension TemplateRenderer {
  mutating func evaluate(_ expression: Expression) throws -> TemplateValue {
    try step()
    switch expression {
    case .literal(let literal): return literal.value
    case .name(let name): return value(of: name)
    case .list(let values): return .list(try values.map { try evaluate($0) })
    case .tuple(let values): return .tuple(try values.map { try evaluate($0) })
    case .dictionary(let pairs): return try dictionary(pairs)
    case .attribute(let base, let name): return try Self.attribute(evaluate(base), name)
    case .index(let base, let index): return try Self.element(evaluate(base), evaluate(index))
    case .slice(let base, let from, let to, let by):
      return try Self.slice(evaluate(base), bound(from), bound(to), bound(by))
    case .call(let function, let arguments): return try call(evaluate(function), evaluate(arguments))
    case .filter(let value, let name, let arguments): return try filter(evaluate(value), name, arguments)
    case .test(let value, let name, let arguments):
      return .bool(try TemplateTests.holds(name, evaluate(value), evaluate(arguments)))
    case .negation(let value): return .bool(try !evaluate(value).isTrue)
    case .minus(let value): return try TemplateValue.operation("-", .integer(0), evaluate(value))
    case .both(let left, let right):
      let value = try evaluate(left)
      return value.isTrue ? try evaluate(right) : value
    case .either(let left, let right):
      let value = try evaluate(left)
      return value.isTrue ? value : try evaluate(right)
    case .operation(let symbol, let left, let right):
      let value = try TemplateValue.operation(symbol, evaluate(left), evaluate(right))
      if let values = value.elements { try step(values.count) }
      return value
    case .comparison(let first, let rest): return .bool(try compare(first, rest))
    case .conditional(let condition, let then, let otherwise):
      if try evaluate(condition).isTrue { return try evaluate(then) }
      return try otherwise.map { try evaluate($0) } ?? .undefined("the other side of 'if'")
    }
  }

  mutating func evaluate(_ arguments: Expression.Arguments) throws -> TemplateArguments {
    TemplateArguments(
      values: try arguments.values.map { try evaluate($0) },
      named: try arguments.named.map { ($0.name, try evaluate($0.value)) })
  }

  mutating func filter(_ value: TemplateValue, _ name: String, _ arguments: Expression.Arguments) throws
    -> TemplateValue
  {
    try TemplateFilters.apply(name, value, evaluate(arguments), &self)
  }

  private mutating func dictionary(_ pairs: [(key: Expression, value: Expression)]) throws -> TemplateValue {
    var mapping = TemplateMapping()
    for pair in pairs {
      let value = try evaluate(pair.key)
      guard let key = TemplateMapping.Key(value) else { throw TemplateError("\(value.kind) cannot be a mapping's key") }
      mapping[key] = try evaluate(pair.value)
    }
    return .mapping(mapping)
  }

  private mutating func compare(_ first: Expression, _ rest: [(operation: String, operand: Expression)]) throws -> Bool
  {
    var left = try evaluate(first)
    for (operation, operand) in rest {
      let right = try evaluate(operand)
      // Comparing walks over both sides.
      try weigh(left)
      try weigh(right)
      guard try Self.holds(operation, left, right) else { return false }
      left = right
    }
    return true
  }

  static func holds(_ operation: String, _ a: TemplateValue, _ b: TemplateValue) throws -> Bool {
    switch operation {
    case "==": TemplateValue.equal(a, b)
    case "!=": !TemplateValue.equal(a, b)
    case "<": try TemplateValue.less(a, b)
    case ">": try TemplateValue.less(b, a)
    case "<=": try TemplateValue.equal(a, b) || TemplateValue.less(a, b)
    case ">=": try TemplateValue.equal(a, b) || TemplateValue.less(b, a)
    case "in": try TemplateValue.contains(b, a)
    default: try !TemplateValue.contains(b, a)
    }
  }

  // MARK: Members

  /// `value.name`: a member, else a method. An unknown one is undefined, as long as the value is not.
  static func attribute(_ value: TemplateValue, _ name: String) throws -> TemplateValue {
    switch value {
    case .undefined(let unknown): throw TemplateError("'\(unknown)' is undefined, so it has no '\(name)'")
    case .mapping(let mapping):
      // Methods win over keys, as they do in Python.
      if let method = TemplateMethods.method(name, of: value) { return .function(method) }
      if let member = mapping[name] { return member }
    case .namespace(let space): if let member = space.members[name] { return member }
    case .loop(let loop): if let member = loop.member(name) { return member }
    default: if let method = TemplateMethods.method(name, of: value) { return .function(method) }
    }
    return .undefined(name)
  }

  /// `value[index]`: by key or by place, counted from the end when negative.
  static func element(_ value: TemplateValue, _ index: TemplateValue) throws -> TemplateValue {
    func place(_ count: Int) -> Int? {
      guard let whole = index.whole else { return nil }
      let place = whole < 0 ? count + whole : whole
      return (0..<count).contains(place) ? place : nil
    }
    switch value {
    case .undefined(let name): throw TemplateError("'\(name)' is undefined, so it has no elements")
    case .list(let values), .tuple(let values): if let place = place(values.count) { return values[place] }
    case .text(let text):
      let scalars = Array(text.unicodeScalars)
      if let place = place(scalars.count) { return .text(String(scalars[place])) }
    case .mapping(let mapping):
      guard let key = TemplateMapping.Key(index) else { break }
      if let member = mapping[key] { return member }
    default: break
    }
    if case .text(let name) = index { return try attribute(value, name) }
    return .undefined("[\(index.shown)]")
  }

  private mutating func bound(_ expression: Expression?) throws -> Int? {
    guard let expression else { return nil }
    let value = try evaluate(expression)
    if value.isNone { return nil }
    guard let whole = value.whole else { throw TemplateError("a slice needs whole numbers, got \(value.kind)") }
    return whole
  }

  static func slice(_ value: TemplateValue, _ from: Int?, _ to: Int?, _ by: Int?) throws -> TemplateValue {
    switch value {
    case .list(let values): return .list(try sliced(values, from, to, by))
    case .tuple(let values): return .tuple(try sliced(values, from, to, by))
    case .text(let text):
      var view = String.UnicodeScalarView()
      view.append(contentsOf: try sliced(Array(text.unicodeScalars), from, to, by))
      return .text(String(view))
    case .undefined(let name): throw TemplateError("'\(name)' is undefined, so it has no elements")
    default: throw TemplateError("\(value.kind) cannot be sliced")
    }
  }

  /// Python's slice: places beyond the ends are the ends.
  private static func sliced<Element>(_ values: [Element], _ from: Int?, _ to: Int?, _ by: Int?) throws -> [Element] {
    let step = by ?? 1
    guard step != 0, step > Int.min else { throw TemplateError("a slice's step must not be 0") }
    let count = values.count
    let range = step > 0 ? 0...count : -1...count - 1
    func place(_ value: Int?, _ fallback: Int) -> Int {
      guard let value else { return fallback }
      let place = value < 0 ? max(value, -count - 1) + count : value
      return min(max(place, range.lowerBound), range.upperBound)
    }
    let start = place(from, step > 0 ? range.lowerBound : range.upperBound)
    let end = place(to, step > 0 ? range.upperBound : range.lowerBound)
    return stride(from: start, to: end, by: step).map { values[$0] }
  }
}

extension Expression.Literal {
  var value: TemplateValue {
    switch self {
    case .none: .none
    case .bool(let value): .bool(value)
    case .integer(let value): .integer(value)
    case .double(let value): .double(value)
    case .text(let value): .text(value)
    }
  }
}
