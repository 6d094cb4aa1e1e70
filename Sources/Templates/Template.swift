import FermataFiles

/// A text with tags in Jinja's language, as far as chat templates use it: loops, conditions, macros, filters, tests,
/// namespaces, white-space control.
///
/// Rendered as `transformers` renders chat templates (`trim_blocks` and `lstrip_blocks` on, undefined names print nothing,
/// lists and mappings cannot be changed). A template is a value that is read once and rendered many times; what it may do is
/// bounded, so one from a stranger can fail but neither hang nor fill the memory.
public struct Template: Sendable {
  private let statements: [Statement]

  /// - Throws: `TemplateError` with the line where the template cannot be read.
  public init(_ source: String) throws { statements = try TemplateParser.parse(source) }

  /// The text for these values. Members of objects come in their order.
  /// - Throws: `TemplateError` where the template fails or refuses its values.
  public func render(_ values: [String: OrderedJSON]) throws -> String {
    try render(TemplateMapping(values.sorted { $0.key < $1.key }.map { ($0.key, TemplateValue($0.value)) }))
  }

  func render(_ values: TemplateMapping) throws -> String {
    var renderer = TemplateRenderer(values)
    try renderer.run(statements)
    return renderer.output
  }
}

extension TemplateValue {
  init(_ json: OrderedJSON) {
    switch json {
    case .null: self = .none
    case .bool(let value): self = .bool(value)
    case .int(let value): self = .integer(value)
    case .double(let value): self = .double(value)
    case .string(let value): self = .text(value)
    case .array(let values): self = .list(values.map { TemplateValue($0) })
    case .object(let members):
      self = .mapping(TemplateMapping(members.map { ($0.key, TemplateValue($0.value)) }))
    }
  }
}
