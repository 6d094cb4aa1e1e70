/// A value as templates see it: Python's, as far as chat templates know them.
enum TemplateValue {
  /// A name that nothing was given for.
  case undefined(String)
  case none
  case bool(Bool)
  case integer(Int)
  case double(Double)
  case text(String)
  case list([TemplateValue])
  /// As a list, but equal to no list, and printed in round brackets.
  case tuple([TemplateValue])
  case mapping(TemplateMapping)
  case namespace(TemplateNamespace)
  case function(TemplateFunction)
  case loop(TemplateLoop)

  /// "a text", "a list", … for messages.
  var kind: String {
    switch self {
    case .undefined: "an undefined value"
    case .none: "none"
    case .bool: "true or false"
    case .integer: "a whole number"
    case .double: "a number"
    case .text: "a text"
    case .list: "a list"
    case .tuple: "a tuple"
    case .mapping: "a mapping"
    case .namespace: "a namespace"
    case .function: "a function"
    case .loop: "a loop"
    }
  }

  /// Python's truth.
  var isTrue: Bool {
    switch self {
    case .undefined, .none: false
    case .bool(let value): value
    case .integer(let value): value != 0
    case .double(let value): value != 0
    case .text(let value): !value.isEmpty
    case .list(let values), .tuple(let values): !values.isEmpty
    case .mapping(let mapping): !mapping.keys.isEmpty
    case .namespace, .function, .loop: true
    }
  }

  /// The number, where it is one; true and false count as 1 and 0.
  var number: Double? {
    switch self {
    case .bool(let value): value ? 1 : 0
    case .integer(let value): Double(value)
    case .double(let value): value
    default: nil
    }
  }

  var whole: Int? {
    switch self {
    case .bool(let value): value ? 1 : 0
    case .integer(let value): value
    default: nil
    }
  }

  /// The elements of a list or tuple; nil for other values.
  var elements: [TemplateValue]? {
    switch self {
    case .list(let values), .tuple(let values): values
    default: nil
    }
  }

  var isUndefined: Bool { if case .undefined = self { true } else { false } }
  var isNone: Bool { if case .none = self { true } else { false } }
}

/// Keys to values, in the order they were put in.
struct TemplateMapping {
  /// What can be a key.
  enum Key: Hashable {
    case text(String)
    case integer(Int)

    /// nil for values that can be none.
    init?(_ value: TemplateValue) {
      switch value {
      case .text(let text): self = .text(text)
      case .integer(let number): self = .integer(number)
      default: return nil
      }
    }

    var value: TemplateValue {
      switch self {
      case .text(let text): .text(text)
      case .integer(let number): .integer(number)
      }
    }
  }

  private(set) var keys: [Key] = []
  private var values: [Key: TemplateValue] = [:]

  init() {}

  init(_ pairs: [(String, TemplateValue)]) {
    for (key, value) in pairs { self[key] = value }
  }

  subscript(_ key: String) -> TemplateValue? {
    get { values[.text(key)] }
    set { self[Key.text(key)] = newValue }
  }

  subscript(_ key: Key) -> TemplateValue? {
    get { values[key] }
    set {
      guard let newValue else { return }
      if values.updateValue(newValue, forKey: key) == nil { keys.append(key) }
    }
  }

  /// Pairs of keys and values, as tuples.
  var items: TemplateValue { .list(pairs.map { .tuple([$0.key.value, $0.value]) }) }

  var pairs: [(key: Key, value: TemplateValue)] { keys.compactMap { key in values[key].map { (key, $0) } } }
}

/// What `namespace(…)` makes: the one value that a template can change in place.
final class TemplateNamespace {
  var members: TemplateMapping

  init(_ members: TemplateMapping) { self.members = members }
}

/// Something a template can call: a macro, a method of a value, or a function of the renderer.
struct TemplateFunction {
  let name: String
  let body: (inout TemplateRenderer, TemplateArguments) throws -> TemplateValue
}

/// What a call was given.
struct TemplateArguments {
  var values: [TemplateValue] = []
  var named: [(name: String, value: TemplateValue)] = []

  /// The argument at a place or of a name.
  func value(_ place: Int, _ name: String) -> TemplateValue? {
    place < values.count ? values[place] : named.first { $0.name == name }?.value
  }

  func needed(_ place: Int, _ name: String) throws -> TemplateValue {
    guard let value = value(place, name) else { throw TemplateError("the argument '\(name)' is missing") }
    return value
  }

  func text(_ place: Int, _ name: String) throws -> String? {
    guard let value = value(place, name), !value.isNone else { return nil }
    guard case .text(let text) = value else { throw TemplateError("'\(name)' must be a text, got \(value.kind)") }
    return text
  }

  func whole(_ place: Int, _ name: String) throws -> Int? {
    guard let value = value(place, name), !value.isNone else { return nil }
    guard let whole = value.whole else { throw TemplateError("'\(name)' must be a whole number, got \(value.kind)") }
    return whole
  }
}
