extension TemplateFilters {
  /// Filters that walk over a sequence.
  static let sequences: [String: Filter] = [
    "first": { value, _, renderer in try renderer.elements(of: value).first ?? .undefined("the first of nothing") },
    "last": { value, _, renderer in try renderer.elements(of: value).last ?? .undefined("the last of nothing") },
    "list": { value, _, renderer in .list(try renderer.elements(of: value)) },
    "reverse": { value, _, renderer in
      let values = try renderer.elements(of: value)
      if case .text = value { return .text(values.reversed().map(\.printed).joined()) }
      return .list(values.reversed())
    },
    "join": { value, arguments, renderer in
      let separator = try arguments.text(0, "d") ?? ""
      var values = try renderer.elements(of: value)
      if let attribute = arguments.value(1, "attribute") { values = try values.map { try member($0, attribute) } }
      return .text(try TemplateMethods.joined(values.map(\.printed), separator))
    },
    "sort": { value, arguments, renderer in
      let isReversed = arguments.value(0, "reverse")?.isTrue ?? false
      let minds = arguments.value(1, "case_sensitive")?.isTrue ?? false
      let attribute = arguments.value(2, "attribute")
      func key(_ value: TemplateValue) throws -> TemplateValue {
        let key = try attribute.map { try member(value, $0) } ?? value
        if case .text(let text) = key, !minds { return .text(text.lowercased()) }
        return key
      }
      let keyed = try renderer.elements(of: value).map { (key: try key($0), value: $0) }
      let sorted = try keyed.enumerated().sorted { a, b in
        if try TemplateValue.less(a.element.key, b.element.key) { return !isReversed }
        if try TemplateValue.less(b.element.key, a.element.key) { return isReversed }
        return a.offset < b.offset
      }
      return .list(sorted.map(\.element.value))
    },
    "unique": { value, _, renderer in
      var found: [TemplateValue] = []
      for element in try renderer.elements(of: value) {
        for _ in found { try renderer.step() }
        if !found.contains(where: { TemplateValue.equal($0, element) }) { found.append(element) }
      }
      return .list(found)
    },
    "min": { value, _, renderer in
      try renderer.elements(of: value).min(by: TemplateValue.less) ?? .undefined("the least of nothing")
    },
    "max": { value, _, renderer in
      try renderer.elements(of: value).max(by: TemplateValue.less) ?? .undefined("the largest of nothing")
    },
    "sum": { value, arguments, renderer in
      let attribute = arguments.value(0, "attribute")
      return try renderer.elements(of: value).reduce(arguments.value(1, "start") ?? .integer(0)) { sum, element in
        try TemplateValue.operation("+", sum, attribute.map { try member(element, $0) } ?? element)
      }
    },
    "map": { value, arguments, renderer in
      let values = value.isTrue ? try renderer.elements(of: value) : []
      if let attribute = arguments.named.first(where: { $0.name == "attribute" })?.value {
        let initial = arguments.named.first { $0.name == "default" }?.value
        return .list(
          try values.map { element in
            let found = try member(element, attribute)
            return found.isUndefined ? initial ?? found : found
          })
      }
      let name = try arguments.needed(0, "filter").printed
      let rest = TemplateArguments(values: Array(arguments.values.dropFirst()), named: arguments.named)
      return .list(try values.map { try apply(name, $0, rest, &renderer) })
    },
    "select": choosing(byAttribute: false, keeping: true), "reject": choosing(byAttribute: false, keeping: false),
    "selectattr": choosing(byAttribute: true, keeping: true), "rejectattr": choosing(byAttribute: true, keeping: false),
    "batch": { value, arguments, renderer in
      let size = max(1, try arguments.whole(0, "linecount") ?? 1)
      let values = try renderer.elements(of: value)
      return .list(
        stride(from: 0, to: values.count, by: size).map { .list(Array(values[$0..<min(values.count, $0 + size)])) })
    },
    "groupby": { value, arguments, renderer in
      let attribute = try arguments.needed(0, "attribute")
      var groups: [(key: TemplateValue, values: [TemplateValue])] = []
      for element in try renderer.elements(of: value) {
        for _ in groups { try renderer.step() }
        let key = try member(element, attribute)
        if let place = groups.firstIndex(where: { TemplateValue.equal($0.key, key) }) {
          groups[place].values.append(element)
        } else {
          groups.append((key, [element]))
        }
      }
      return .list(
        try groups.sorted { try TemplateValue.less($0.key, $1.key) }.map { .tuple([$0.key, .list($0.values)]) })
    },
  ]

  /// A member by a path: "function.name", or a place in a list.
  private static func member(_ value: TemplateValue, _ path: TemplateValue) throws -> TemplateValue {
    guard case .text(let path) = path else { return try TemplateRenderer.element(value, path) }
    return try path.split(separator: ".").reduce(value) { value, name in
      try TemplateRenderer.element(value, Int(name).map { .integer($0) } ?? .text(String(name)))
    }
  }

  /// select, reject and their kin: by a test, or by truth when none is named.
  private static func choosing(byAttribute: Bool, keeping: Bool) -> Filter {
    { value, arguments, renderer in
      var rest = arguments.values[...]
      let attribute = byAttribute ? rest.popFirst() : nil
      let test = rest.popFirst()?.printed
      let testArguments = TemplateArguments(values: Array(rest))
      // What is false has nothing to choose from, none included.
      return .list(
        try (value.isTrue ? renderer.elements(of: value) : []).filter { element in
          let subject = try attribute.map { try member(element, $0) } ?? element
          return try (test.map { try TemplateTests.holds($0, subject, testArguments) } ?? subject.isTrue) == keeping
        })
    }
  }
}
