/// What `loop` is inside a loop. Its members are made when they are asked for: most templates want one or two.
struct TemplateLoop {
  let values: [TemplateValue]
  let index: Int

  /// `loop.index` and its kin; nil for unknown names.
  func member(_ name: String) -> TemplateValue? { Self.members[name].map { $0(self) } }

  private static let members: [String: @Sendable (TemplateLoop) -> TemplateValue] = [
    "index": { .integer($0.index + 1) },
    "index0": { .integer($0.index) },
    "revindex": { .integer($0.values.count - $0.index) },
    "revindex0": { .integer($0.values.count - $0.index - 1) },
    "first": { .bool($0.index == 0) },
    "last": { .bool($0.index == $0.values.count - 1) },
    "length": { .integer($0.values.count) },
    "depth": { _ in .integer(1) },
    "depth0": { _ in .integer(0) },
    "previtem": { $0.index > 0 ? $0.values[$0.index - 1] : .undefined("loop.previtem") },
    "nextitem": { $0.index + 1 < $0.values.count ? $0.values[$0.index + 1] : .undefined("loop.nextitem") },
    "cycle": { .function($0.cycle) },
  ]

  private var cycle: TemplateFunction {
    TemplateFunction(name: "cycle") { _, arguments in
      guard !arguments.values.isEmpty else { throw TemplateError("loop.cycle needs at least one value") }
      return arguments.values[index % arguments.values.count]
    }
  }
}
