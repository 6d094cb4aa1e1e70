/// Methods of texts, mappings and lists: those of Python that change nothing.
enum TemplateMethods {
  private typealias TextMethod = @Sendable (String, TemplateArguments) throws -> TemplateValue
  private typealias MappingMethod = @Sendable (TemplateMapping, TemplateArguments) throws -> TemplateValue
  private typealias ListMethod = @Sendable ([TemplateValue], TemplateArguments) throws -> TemplateValue

  /// A method bound to its value; nil when there is none of that name.
  static func method(_ name: String, of value: TemplateValue) -> TemplateFunction? {
    switch value {
    case .text(let text):
      guard let body = texts[name] else { return nil }
      return TemplateFunction(name: name) { try body(text, $1) }
    case .mapping(let mapping):
      guard let body = mappings[name] else { return nil }
      return TemplateFunction(name: name) { try body(mapping, $1) }
    case .list(let values), .tuple(let values):
      guard let body = lists[name] else { return nil }
      return TemplateFunction(name: name) { try body(values, $1) }
    default: return nil
    }
  }

  private static let mappings: [String: MappingMethod] = [
    "items": { mapping, _ in mapping.items },
    "keys": { mapping, _ in .list(mapping.keys.map(\.value)) },
    "values": { mapping, _ in .list(mapping.pairs.map(\.value)) },
    "get": { mapping, arguments in
      let fallback = arguments.value(1, "default") ?? .none
      guard let key = TemplateMapping.Key(try arguments.needed(0, "key")) else { return fallback }
      return mapping[key] ?? fallback
    },
    "copy": { mapping, _ in .mapping(mapping) },
  ]

  private static let lists: [String: ListMethod] = [
    "count": { values, arguments in
      let wanted = try arguments.needed(0, "value")
      return .integer(values.filter { TemplateValue.equal($0, wanted) }.count)
    },
    "index": { values, arguments in
      let wanted = try arguments.needed(0, "value")
      guard let place = values.firstIndex(where: { TemplateValue.equal($0, wanted) }) else {
        throw TemplateError("\(wanted.shown) is not in the list")
      }
      return .integer(place)
    },
    "copy": { values, _ in .list(values) },
    "append": { _, _ in throw TemplateError("a list cannot be changed; write `set x = x + [y]`") },
  ]

  private static let texts: [String: TextMethod] = [
    "strip": { .text(stripped($0, try $1.text(0, "chars"), left: true, right: true)) },
    "lstrip": { .text(stripped($0, try $1.text(0, "chars"), left: true, right: false)) },
    "rstrip": { .text(stripped($0, try $1.text(0, "chars"), left: false, right: true)) },
    "upper": { text, _ in .text(text.uppercased()) },
    "lower": { text, _ in .text(text.lowercased()) },
    "capitalize": { text, _ in .text(text.prefix(1).uppercased() + text.dropFirst().lowercased()) },
    "title": { text, _ in .text(titled(text)) },
    "startswith": { text, arguments in
      .bool(try options(arguments).contains { text.unicodeScalars.starts(with: $0.unicodeScalars) })
    },
    "endswith": { text, arguments in
      .bool(
        try options(arguments).contains {
          text.unicodeScalars.reversed().starts(with: $0.unicodeScalars.reversed())
        })
    },
    "removeprefix": { text, arguments in
      let part = try arguments.needed(0, "prefix").printed.unicodeScalars
      guard text.unicodeScalars.starts(with: part) else { return .text(text) }
      return .text(String(text.unicodeScalars.dropFirst(part.count)))
    },
    "removesuffix": { text, arguments in
      let part = try arguments.needed(0, "suffix").printed.unicodeScalars
      guard text.unicodeScalars.reversed().starts(with: part.reversed()) else { return .text(text) }
      return .text(String(text.unicodeScalars.dropLast(part.count)))
    },
    "replace": { text, arguments in
      let old = try arguments.needed(0, "old").printed
      return .text(
        try replaced(text, old, arguments.needed(1, "new").printed, most: arguments.whole(2, "count") ?? -1))
    },
    "split": { text, arguments in
      .list(
        try split(text, arguments.text(0, "sep"), most: arguments.whole(1, "maxsplit") ?? -1, fromRight: false))
    },
    "rsplit": { text, arguments in
      .list(try split(text, arguments.text(0, "sep"), most: arguments.whole(1, "maxsplit") ?? -1, fromRight: true))
    },
    "splitlines": { text, _ in
      var lines = try pieces(replaced(text, "\r\n", "\n", most: -1), "\n")
      if lines.last == "" { lines.removeLast() }
      return .list(lines.map { .text($0) })
    },
    "join": { text, arguments in
      guard let values = try arguments.needed(0, "iterable").elements else {
        throw TemplateError("'join' needs a list")
      }
      return .text(try joined(values.map(\.printed), text))
    },
    "find": { text, arguments in
      let part = try arguments.needed(0, "sub").printed
      if part.isEmpty { return .integer(0) }
      let scalars = text.unicodeScalars
      guard let range = scalars.firstRange(of: part.unicodeScalars) else { return .integer(-1) }
      return .integer(scalars.distance(from: scalars.startIndex, to: range.lowerBound))
    },
    "count": { text, arguments in
      let part = try arguments.needed(0, "sub").printed
      return .integer(part.isEmpty ? text.unicodeScalars.count + 1 : pieces(text, part).count - 1)
    },
    "isdigit": { text, _ in .bool(!text.isEmpty && text.unicodeScalars.allSatisfy { $0.properties.numericType != nil })
    },
    "isalpha": { text, _ in .bool(!text.isEmpty && text.unicodeScalars.allSatisfy { $0.properties.isAlphabetic }) },
    "isspace": { text, _ in .bool(!text.isEmpty && text.unicodeScalars.allSatisfy { $0.isTemplateSpace }) },
    "format": { text, arguments in .text(try filled(text, arguments)) },
  ]

  /// What `startswith` and `endswith` look for: one text or a list of them.
  private static func options(_ arguments: TemplateArguments) throws -> [String] {
    let value = try arguments.needed(0, "prefix")
    if let values = value.elements { return values.map(\.printed) }
    guard case .text(let text) = value else { throw TemplateError("a text was expected, got \(value.kind)") }
    return [text]
  }

  private static func stripped(_ text: String, _ characters: String?, left: Bool, right: Bool) -> String {
    let set = characters.map { Set($0.unicodeScalars) }
    func goes(_ scalar: Unicode.Scalar) -> Bool { set?.contains(scalar) ?? scalar.isTemplateSpace }
    var view = text.unicodeScalars[...]
    if left { view = view.drop(while: goes) }
    if right { while let last = view.last, goes(last) { view.removeLast() } }
    return String(view)
  }

  /// Each run of letters begins with a capital.
  private static func titled(_ text: String) -> String {
    var result = ""
    var isInWord = false
    for character in text {
      result += isInWord ? character.lowercased() : character.uppercased()
      isInWord = character.isLetter
    }
    return result
  }

  /// `text` cut at every `separator`, which must not be empty.
  static func pieces(_ text: String, _ separator: String, most: Int = -1) -> [String] {
    var found: [String] = []
    var rest = text.unicodeScalars[...]
    while most < 0 || found.count < most, let range = rest.firstRange(of: separator.unicodeScalars) {
      found.append(String(rest[..<range.lowerBound]))
      rest = rest[range.upperBound...]
    }
    return found + [String(rest)]
  }

  static func replaced(_ text: String, _ old: String, _ new: String, most: Int) throws -> String {
    if old.isEmpty {
      try TemplateRenderer.checkSize(new.utf8.count + 4, times: text.unicodeScalars.count + 1)
      let inner = text.unicodeScalars.map { String($0) + new }.joined()
      return new + inner
    }
    return try joined(pieces(text, old, most: most), new)
  }

  /// Texts with another one between them.
  static func joined(_ texts: [String], _ separator: String) throws -> String {
    let size = texts.reduce(0) { $0 + $1.utf8.count }
    try TemplateRenderer.checkSize(separator.utf8.count, times: texts.count)
    try TemplateRenderer.checkSize(size, times: 1)
    return texts.joined(separator: separator)
  }

  private static func split(_ text: String, _ separator: String?, most: Int, fromRight: Bool) throws -> [TemplateValue]
  {
    if let separator {
      guard !separator.isEmpty else { throw TemplateError("the separator of 'split' is empty") }
      guard fromRight, most >= 0 else { return pieces(text, separator, most: most).map { .text($0) } }
      let all = pieces(text, separator)
      let kept = max(0, all.count - most)
      let head = kept > 0 ? [all[..<kept].joined(separator: separator)] : []
      return (head + all[kept...]).map { .text($0) }
    }
    guard most < 0 else { throw TemplateError("'split' at white space takes no 'maxsplit' here") }
    return text.unicodeScalars.split { $0.isTemplateSpace }.map { .text(String($0)) }
  }

  /// `"{} and {name}".format(…)`, without widths.
  private static func filled(_ format: String, _ arguments: TemplateArguments) throws -> String {
    var result = ""
    var next = 0
    var rest = format[...]
    while let brace = rest.firstIndex(where: { $0 == "{" || $0 == "}" }) {
      result += rest[..<brace]
      let after = rest.index(after: brace)
      if after < rest.endIndex, rest[after] == rest[brace] {
        result.append(rest[brace])
        rest = rest[rest.index(after: after)...]
        continue
      }
      guard rest[brace] == "{", let close = rest[after...].firstIndex(of: "}") else {
        throw TemplateError("the format '\(format)' has a brace alone")
      }
      let name = String(rest[after..<close])
      let place = name.isEmpty ? next : Int(name) ?? -1
      if name.isEmpty { next += 1 }
      let named = arguments.named.first { $0.name == name }?.value
      guard let value = arguments.values.indices.contains(place) ? arguments.values[place] : named else {
        throw TemplateError("the format '\(format)' wants '{\(name)}'")
      }
      result += value.printed
      rest = rest[rest.index(after: close)...]
    }
    return result + rest
  }
}
