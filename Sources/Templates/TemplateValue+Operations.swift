import Foundation

extension TemplateValue {
  /// Python's `==`.
  static func equal(_ a: TemplateValue, _ b: TemplateValue) -> Bool {
    switch (a, b) {
    case (.undefined, .undefined), (.none, .none): true
    case (.text(let x), .text(let y)): x.unicodeScalars.elementsEqual(y.unicodeScalars)
    case (.list(let x), .list(let y)), (.tuple(let x), .tuple(let y)): x.count == y.count && zip(x, y).allSatisfy(equal)
    case (.mapping(let x), .mapping(let y)):
      x.keys.count == y.keys.count && x.pairs.allSatisfy { pair in y[pair.key].map { equal(pair.value, $0) } ?? false }
    case (.namespace(let x), .namespace(let y)): x === y
    case (.integer(let x), .integer(let y)): x == y
    default: if let x = a.number, let y = b.number { x == y } else { false }
    }
  }

  /// Python's `<`, for numbers, texts and lists.
  static func less(_ a: TemplateValue, _ b: TemplateValue) throws -> Bool {
    if case .integer(let x) = a, case .integer(let y) = b { return x < y }
    if let x = a.number, let y = b.number { return x < y }
    if case .text(let x) = a, case .text(let y) = b {
      return x.unicodeScalars.lexicographicallyPrecedes(y.unicodeScalars)
    }
    if let x = a.elements, let y = b.elements {
      for (p, q) in zip(x, y) where !equal(p, q) { return try less(p, q) }
      return x.count < y.count
    }
    throw TemplateError("\(a.kind) and \(b.kind) have no order")
  }

  /// Python's `in`.
  static func contains(_ container: TemplateValue, _ value: TemplateValue) throws -> Bool {
    switch container {
    case .list(let values), .tuple(let values): return values.contains { equal($0, value) }
    case .mapping(let mapping): return TemplateMapping.Key(value).map { mapping[$0] != nil } ?? false
    case .namespace(let space):
      if case .text(let key) = value { return space.members[key] != nil } else { return false }
    case .text(let text):
      guard case .text(let part) = value else { throw TemplateError("a text cannot hold \(value.kind)") }
      return part.isEmpty || text.unicodeScalars.firstRange(of: part.unicodeScalars) != nil
    case .undefined: return false
    default: throw TemplateError("\(container.kind) holds nothing that 'in' could find")
    }
  }

  /// Arithmetic, and what it means for texts and lists.
  static func operation(_ symbol: String, _ a: TemplateValue, _ b: TemplateValue) throws -> TemplateValue {
    if symbol == "~" { return .text(try joined(a.printed, b.printed)) }
    switch (symbol, a, b) {
    case ("+", .text(let x), .text(let y)): return .text(try joined(x, y))
    case ("+", .list(let x), .list(let y)): return .list(x + y)
    case ("+", .tuple(let x), .tuple(let y)): return .tuple(x + y)
    case ("*", .text(let x), .integer(let count)), ("*", .integer(let count), .text(let x)):
      try TemplateRenderer.checkSize(x.utf8.count, times: count)
      return .text(String(repeating: x, count: max(0, count)))
    case ("*", .list(let x), .integer(let count)):
      try TemplateRenderer.checkSize(x.count, times: count)
      return .list(Array(repeating: x, count: max(0, count)).flatMap { $0 })
    case ("*", .tuple(let x), .integer(let count)):
      try TemplateRenderer.checkSize(x.count, times: count)
      return .tuple(Array(repeating: x, count: max(0, count)).flatMap { $0 })
    case ("%", .text(let format), _): return .text(try formatted(format, b))
    default: break
    }
    if let x = a.whole, let y = b.whole, symbol != "/", !(symbol == "**" && y < 0) {
      return .integer(try whole(symbol, x, y))
    }
    guard let x = a.number, let y = b.number else {
      let name = if case .undefined(let name) = a { name } else if case .undefined(let name) = b { name } else { "" }
      throw TemplateError(
        name.isEmpty ? "'\(symbol)' does not fit \(a.kind) and \(b.kind)" : "'\(name)' is undefined")
    }
    return .double(try real(symbol, x, y))
  }

  private static func joined(_ x: String, _ y: String) throws -> String {
    try TemplateRenderer.checkSize(x.utf8.count + y.utf8.count, times: 1)
    return x + y
  }

  private static func whole(_ symbol: String, _ x: Int, _ y: Int) throws -> Int {
    let result: (partialValue: Int, overflow: Bool)
    switch symbol {
    case "+": result = x.addingReportingOverflow(y)
    case "-": result = x.subtractingReportingOverflow(y)
    case "*": result = x.multipliedReportingOverflow(by: y)
    case "//", "%":
      guard y != 0 else { throw TemplateError("a division by zero") }
      let (quotient, overflow) = x.dividedReportingOverflow(by: y)
      if overflow { throw TemplateError("a number is too large") }
      let remainder = x - quotient &* y
      // Python rounds down, and a remainder has the sign of the divisor.
      let isOff = remainder != 0 && (remainder < 0) != (y < 0)
      return symbol == "//" ? quotient - (isOff ? 1 : 0) : remainder + (isOff ? y : 0)
    case "**": result = try raised(x, y)
    default: throw TemplateError("there is no operator '\(symbol)'")
    }
    if result.overflow { throw TemplateError("a number is too large") }
    return result.partialValue
  }

  private static func raised(_ x: Int, _ y: Int) throws -> (partialValue: Int, overflow: Bool) {
    if x == 0 || x == 1 { return (y == 0 ? 1 : x, false) }
    if x == -1 { return (y % 2 == 0 ? 1 : -1, false) }
    var result = 1
    for _ in 0..<min(y, 64) {
      let (value, overflow) = result.multipliedReportingOverflow(by: x)
      if overflow { return (0, true) }
      result = value
    }
    return (result, y > 64)
  }

  private static func real(_ symbol: String, _ x: Double, _ y: Double) throws -> Double {
    if ["/", "//", "%"].contains(symbol), y == 0 { throw TemplateError("a division by zero") }
    switch symbol {
    case "+": return x + y
    case "-": return x - y
    case "*": return x * y
    case "/": return x / y
    case "//": return (x / y).rounded(.down)
    case "%": return x - y * (x / y).rounded(.down)
    case "**": return pow(x, y)
    default: throw TemplateError("there is no operator '\(symbol)'")
    }
  }

  /// `"%s and %d" % values`, without widths.
  static func formatted(_ format: String, _ argument: TemplateValue) throws -> String {
    var left: ArraySlice<TemplateValue> = if case .tuple(let values) = argument { values[...] } else { [argument] }
    var result = String.UnicodeScalarView()
    var scalars = format.unicodeScalars.makeIterator()
    while let scalar = scalars.next() {
      guard scalar == "%" else {
        result.append(scalar)
        continue
      }
      guard let kind = scalars.next() else { throw TemplateError("the format '\(format)' ends in '%'") }
      if kind == "%" {
        result.append(kind)
        continue
      }
      guard ["s", "d", "r"].contains(kind) else { throw TemplateError("the format '%\(kind)' is not supported") }
      guard let value = left.popFirst() else { throw TemplateError("the format '\(format)' wants more values") }
      result.append(contentsOf: (kind == "r" ? value.shown : value.printed).unicodeScalars)
    }
    return String(result)
  }
}
