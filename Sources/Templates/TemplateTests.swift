/// What can stand behind `is`: one line each.
enum TemplateTests {
  typealias Test = @Sendable (TemplateValue, TemplateArguments) throws -> Bool

  static func holds(_ name: String, _ value: TemplateValue, _ arguments: TemplateArguments) throws -> Bool {
    guard let test = all[name] else { throw TemplateError("there is no test '\(name)'") }
    return try test(value, arguments)
  }

  static let all: [String: Test] = [
    "defined": { value, _ in !value.isUndefined },
    "undefined": { value, _ in value.isUndefined },
    "none": { value, _ in value.isNone },
    "true": { value, _ in if case .bool(true) = value { true } else { false } },
    "false": { value, _ in if case .bool(false) = value { true } else { false } },
    "boolean": { value, _ in if case .bool = value { true } else { false } },
    "string": { value, _ in if case .text = value { true } else { false } },
    "number": { value, _ in value.number != nil },
    "integer": { value, _ in if case .integer = value { true } else { false } },
    "float": { value, _ in if case .double = value { true } else { false } },
    "mapping": { value, _ in if case .mapping = value { true } else { false } },
    "sequence": { value, _ in isIterable(value) },
    "iterable": { value, _ in isIterable(value) },
    "callable": { value, _ in if case .function = value { true } else { false } },
    "odd": { value, _ in try whole(value) % 2 != 0 },
    "even": { value, _ in try whole(value) % 2 == 0 },
    "divisibleby": { value, arguments in
      let divisor = try whole(arguments.needed(0, "num"))
      guard divisor != 0, divisor != -1 else { return divisor == -1 }
      return try whole(value) % divisor == 0
    },
    "in": { value, arguments in try TemplateValue.contains(arguments.needed(0, "seq"), value) },
    "eq": comparison("=="), "equalto": comparison("=="), "==": comparison("=="), "sameas": comparison("=="),
    "ne": comparison("!="), "!=": comparison("!="), "lt": comparison("<"), "lessthan": comparison("<"),
    "gt": comparison(">"), "greaterthan": comparison(">"), "le": comparison("<="), "ge": comparison(">="),
    "lower": { value, _ in value.printed == value.printed.lowercased() },
    "upper": { value, _ in value.printed == value.printed.uppercased() },
  ]

  private static func comparison(_ operation: String) -> Test {
    { value, arguments in try TemplateRenderer.holds(operation, value, arguments.needed(0, "other")) }
  }

  private static func isIterable(_ value: TemplateValue) -> Bool {
    switch value {
    // Jinja counts an undefined value as an empty sequence.
    case .list, .tuple, .mapping, .text, .undefined: true
    default: false
    }
  }

  private static func whole(_ value: TemplateValue) throws -> Int {
    guard let whole = value.whole else { throw TemplateError("a whole number was expected, got \(value.kind)") }
    return whole
  }
}
