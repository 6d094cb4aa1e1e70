import Foundation

/// What can stand behind `|`: one line each.
enum TemplateFilters {
  typealias Filter = @Sendable (TemplateValue, TemplateArguments, inout TemplateRenderer) throws -> TemplateValue

  static func apply(
    _ name: String, _ value: TemplateValue, _ arguments: TemplateArguments, _ renderer: inout TemplateRenderer
  ) throws -> TemplateValue {
    guard let filter = text[name] ?? sequences[name] ?? values[name] else {
      throw TemplateError("there is no filter '\(name)'")
    }
    return try filter(value, arguments, &renderer)
  }

  // MARK: Texts

  private static func onText(_ body: @escaping @Sendable (String) -> String) -> Filter {
    { value, _, _ in .text(body(value.printed)) }
  }

  /// What a text's method does, as a filter.
  private static func method(_ name: String) -> Filter {
    { value, arguments, renderer in
      let text = TemplateValue.text(value.printed)
      guard let method = TemplateMethods.method(name, of: text) else { throw TemplateError("there is no '\(name)'") }
      return try method.body(&renderer, arguments)
    }
  }

  private static let text: [String: Filter] = [
    "upper": onText { $0.uppercased() }, "lower": onText { $0.lowercased() }, "string": onText { $0 },
    "safe": onText { $0 }, "trim": method("strip"), "title": method("title"), "capitalize": method("capitalize"),
    "replace": method("replace"), "escape": onText(escaped), "e": onText(escaped),
    "wordcount": { value, _, _ in .integer(value.printed.split { $0.isWhitespace }.count) },
    "indent": { value, arguments, _ in .text(try indented(value.printed, arguments)) },
    "format": { value, arguments, _ in .text(try TemplateValue.formatted(value.printed, .tuple(arguments.values))) },
    "tojson": { value, arguments, _ in
      var separators: (String, String)?
      // As transformers has it: (value, ensure_ascii, indent, separators, sort_keys).
      if let pair = arguments.value(2, "separators")?.elements, pair.count == 2 {
        separators = (pair[0].printed, pair[1].printed)
      }
      return .text(
        try value.json(
          indent: arguments.whole(1, "indent").map { min(max($0, 0), 64) },
          sortingKeys: arguments.value(3, "sort_keys")?.isTrue ?? false, separators: separators))
    },
  ]

  private static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&#34;"
      case "'": result += "&#39;"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private static func indented(_ text: String, _ arguments: TemplateArguments) throws -> String {
    let blanks: String
    if case .text(let given)? = arguments.value(0, "width") {
      blanks = given
    } else {
      blanks = String(repeating: " ", count: min(max(try arguments.whole(0, "width") ?? 4, 0), 1000))
    }
    let indentsFirst = arguments.value(1, "first")?.isTrue ?? false
    let indentsBlank = arguments.value(2, "blank")?.isTrue ?? false
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    try TemplateRenderer.checkSize(blanks.utf8.count, times: lines.count)
    return lines.enumerated().map { index, line in
      let isIndented = index == 0 ? indentsFirst : indentsBlank || !line.isEmpty
      return (isIndented ? blanks : "") + line
    }.joined(separator: "\n")
  }

  // MARK: Values

  private static let values: [String: Filter] = [
    "default": fallback, "d": fallback,
    "int": { value, arguments, _ in
      let initial = try arguments.whole(0, "default") ?? 0
      switch value {
      case .text(let text):
        let trimmed = text.trimmingCharacters(in: .whitespacesAndNewlines)
        return .integer(Int(trimmed) ?? Double(trimmed).flatMap { Int(exactly: $0.rounded(.towardZero)) } ?? initial)
      default: return .integer(value.whole ?? value.number.flatMap { Int(exactly: $0.rounded(.towardZero)) } ?? initial)
      }
    },
    "float": { value, _, _ in
      if case .text(let text) = value { return .double(Double(text.trimmingCharacters(in: .whitespaces)) ?? 0) }
      return .double(value.number ?? 0)
    },
    "bool": { value, _, _ in .bool(value.isTrue) },
    "abs": { value, _, _ in
      if let whole = value.whole { return .integer(whole < 0 ? 0 &- whole : whole) }
      guard let number = value.number else { throw TemplateError("'abs' needs a number, got \(value.kind)") }
      return .double(abs(number))
    },
    "round": { value, arguments, _ in
      guard let number = value.number else { throw TemplateError("'round' needs a number, got \(value.kind)") }
      let scale = pow(10, Double(min(max(try arguments.whole(0, "precision") ?? 0, -15), 15)))
      let rules: [String: FloatingPointRoundingRule] = ["common": .toNearestOrEven, "ceil": .up, "floor": .down]
      let rule = rules[try arguments.text(1, "method") ?? "common"] ?? .toNearestOrEven
      return .double((number * scale).rounded(rule) / scale)
    },
    "items": { value, _, _ in
      guard case .mapping(let mapping) = value else {
        if value.isUndefined { return .list([]) }
        throw TemplateError("'items' needs a mapping, got \(value.kind)")
      }
      return mapping.items
    },
    "dictsort": { value, arguments, _ in
      guard case .mapping(let mapping) = value else { throw TemplateError("'dictsort' needs a mapping") }
      let isReversed = arguments.value(2, "reverse")?.isTrue ?? false
      let isByValue = try arguments.text(1, "by") == "value"
      let pairs = try mapping.pairs.sorted { a, b in
        if isByValue { return try TemplateValue.less(a.value, b.value) }
        guard case .text(let x) = a.key, case .text(let y) = b.key else {
          return try TemplateValue.less(a.key.value, b.key.value)
        }
        return x.lowercased() < y.lowercased()
      }
      return .list((isReversed ? pairs.reversed() : pairs).map { .tuple([$0.key.value, $0.value]) })
    },
    "attr": { value, arguments, _ in
      try TemplateRenderer.attribute(value, arguments.needed(0, "name").printed)
    },
    "count": length, "length": length,
  ]

  private static let fallback: Filter = { value, arguments, _ in
    let replacesFalse = arguments.value(1, "boolean")?.isTrue ?? false
    return value.isUndefined || (replacesFalse && !value.isTrue)
      ? arguments.value(0, "default_value") ?? .text("") : value
  }

  private static let length: Filter = { value, _, _ in
    switch value {
    case .text(let text): .integer(text.unicodeScalars.count)
    case .list(let values), .tuple(let values): .integer(values.count)
    case .mapping(let mapping): .integer(mapping.keys.count)
    case .undefined: .integer(0)
    default: throw TemplateError("\(value.kind) has no length")
    }
  }
}
