/// Runs a template. What a template may do is bounded: steps, output, nesting; a hostile one ends in an error.
struct TemplateRenderer {
  /// Names, innermost scope last. Functions of the renderer stand below all of them.
  private var scopes: [TemplateMapping]
  private(set) var output = ""
  private var steps = 0
  private var depth = 0

  private static let mostSteps = 2_000_000
  private static let mostBytes = 256 << 20
  private static let deepest = 100
  private static let deepestValue = 100

  /// How a statement left its loop.
  enum Flow { case on, breaking, continuing }

  init(_ context: TemplateMapping) { scopes = [context] }

  // MARK: Bounds

  /// Counts one step of work.
  mutating func step() throws {
    steps += 1
    if steps > Self.mostSteps { throw TemplateError("the template takes more than \(Self.mostSteps) steps") }
  }

  static func checkSize(_ size: Int, times count: Int) throws {
    let (bytes, overflow) = max(size, 1).multipliedReportingOverflow(by: max(0, count))
    if overflow || bytes > mostBytes { throw TemplateError("a value would be larger than \(mostBytes) bytes") }
  }

  /// Counts a value's parts as steps and refuses one that is nested too deep. Whatever gets a name is weighed, so that no
  /// value can grow beyond the steps that a template has.
  mutating func weigh(_ value: TemplateValue, depth: Int = 0) throws {
    guard depth <= Self.deepestValue else {
      throw TemplateError("a value is nested more than \(Self.deepestValue) deep")
    }
    switch value {
    case .list(let values), .tuple(let values):
      for element in values {
        try step()
        try weigh(element, depth: depth + 1)
      }
    case .mapping(let mapping):
      for pair in mapping.pairs {
        try step()
        try weigh(pair.value, depth: depth + 1)
      }
    default: break
    }
  }

  /// Counts as many steps at once.
  mutating func step(_ count: Int) throws {
    steps += min(count, Self.mostSteps)
    try step()
  }

  mutating func write(_ text: String) throws {
    guard output.utf8.count + text.utf8.count <= Self.mostBytes else {
      throw TemplateError("the output would be larger than \(Self.mostBytes) bytes")
    }
    output += text
  }

  private mutating func nested<Result>(_ body: (inout TemplateRenderer) throws -> Result) throws -> Result {
    guard depth < Self.deepest else { throw TemplateError("calls are nested more than \(Self.deepest) deep") }
    depth += 1
    defer { depth -= 1 }
    return try body(&self)
  }

  // MARK: Names

  /// The value of a name; an undefined value for an unknown one.
  func value(of name: String) -> TemplateValue {
    for scope in scopes.reversed() { if let value = scope[name] { return value } }
    return TemplateFunctions.all[name].map { .function(TemplateFunction(name: name, body: $0)) } ?? .undefined(name)
  }

  mutating func set(_ name: String, _ value: TemplateValue) { scopes[scopes.count - 1][name] = value }

  @discardableResult
  private mutating func scoped<Result>(
    _ names: TemplateMapping = TemplateMapping(), _ body: (inout TemplateRenderer) throws -> Result
  ) throws -> Result {
    scopes.append(names)
    defer { scopes.removeLast() }
    return try nested(body)
  }

  /// What statements print in a scope of their own, taken out of the output.
  private mutating func printed(_ statements: [Statement], _ names: TemplateMapping = TemplateMapping()) throws
    -> String
  {
    let before = output
    output = ""
    defer { output = before }
    try scoped(names) { try $0.run(statements) }
    return output
  }

  // MARK: Statements

  @discardableResult
  mutating func run(_ statements: [Statement]) throws -> Flow {
    for statement in statements {
      do {
        try step()
        let flow = try run(statement.kind)
        if flow != .on { return flow }
      } catch let error as TemplateError {
        throw error.at(statement.line)
      }
    }
    return .on
  }

  private mutating func run(_ statement: Statement.Kind) throws -> Flow {
    switch statement {
    case .text(let text): try write(text)
    case .output(let expression): try write(evaluate(expression).printed)
    case .branches(let branches, let otherwise):
      for branch in branches where try evaluate(branch.condition).isTrue { return try run(branch.body) }
      return try run(otherwise)
    case .loop(let loop): try run(loop)
    case .assignment(let target, let expression): try assign(evaluate(expression), to: target)
    case .capture(let name, let filters, let body):
      let text = try printed(body)
      set(name, try filtered(.text(text), filters))
    case .filtered(let filters, let body):
      let text = try printed(body)
      try write(filtered(.text(text), filters).printed)
    case .scope(let values, let body):
      let names = TemplateMapping(try values.map { ($0.name, try evaluate($0.value)) })
      return try scoped(names) { try $0.run(body) }
    case .macro(let macro): set(macro.name, .function(function(macro)))
    case .call(let callee, let body): try call(callee, with: body)
    case .group(let body): return try run(body)
    case .breakLoop: return .breaking
    case .continueLoop: return .continuing
    }
    return .on
  }

  private mutating func filtered(
    _ value: TemplateValue, _ filters: [(name: String, arguments: Expression.Arguments)]
  ) throws -> TemplateValue {
    try filters.reduce(value) { try filter($0, $1.name, $1.arguments) }
  }

  private mutating func assign(_ value: TemplateValue, to target: Statement.Target) throws {
    try weigh(value)
    switch target {
    case .name(let name): set(name, value)
    case .names(let names):
      let values = try elements(of: value)
      guard values.count == names.count else {
        throw TemplateError("\(values.count) values do not fit the names \(names.joined(separator: ", "))")
      }
      for (name, value) in zip(names, values) { set(name, value) }
    case .member(let name, let member):
      guard case .namespace(let space) = self.value(of: name) else {
        throw TemplateError("'\(name)' is no namespace, so its '\(member)' cannot be set")
      }
      if case .namespace = value { throw TemplateError("a namespace cannot be a member of one") }
      space.members[member] = value
    }
  }

  // MARK: Loops

  private mutating func run(_ loop: Statement.Loop) throws {
    var values = try elements(of: evaluate(loop.sequence))
    if let condition = loop.condition {
      values = try scoped { renderer in
        try values.filter { value in
          try renderer.step()
          try renderer.assign(value, to: loop.target)
          return try renderer.evaluate(condition).isTrue
        }
      }
    }
    if values.isEmpty {
      try run(loop.otherwise)
      return
    }
    for index in values.indices {
      try step()
      let state = TemplateValue.loop(TemplateLoop(values: values, index: index))
      let flow = try scoped(TemplateMapping([("loop", state)])) { renderer in
        try renderer.assign(values[index], to: loop.target)
        return try renderer.run(loop.body)
      }
      if flow == .breaking { return }
    }
  }

  /// What a loop walks over: elements, keys, or characters.
  func elements(of value: TemplateValue) throws -> [TemplateValue] {
    switch value {
    case .list(let values), .tuple(let values): values
    case .mapping(let mapping): mapping.keys.map(\.value)
    case .text(let text): text.unicodeScalars.map { .text(String($0)) }
    case .undefined: []
    default: throw TemplateError("\(value.kind) has no elements to walk over")
    }
  }

  // MARK: Macros

  private func function(_ macro: Statement.Macro) -> TemplateFunction {
    TemplateFunction(name: macro.name) { renderer, arguments in
      guard arguments.values.count <= macro.parameters.count else {
        throw TemplateError("'\(macro.name)' takes \(macro.parameters.count) values, got \(arguments.values.count)")
      }
      var names = TemplateMapping()
      for (place, parameter) in macro.parameters.enumerated() {
        names[parameter.name] =
          try arguments.value(place, parameter.name)
          ?? parameter.initial.map { initial in try renderer.evaluate(initial) } ?? .undefined(parameter.name)
      }
      for (name, value) in arguments.named where names[name] == nil {
        guard name == "caller" else { throw TemplateError("'\(macro.name)' takes no '\(name)'") }
        names[name] = value
      }
      // A macro sees the names of the template's top, not those of where it is called.
      let outer = renderer.scopes
      renderer.scopes = Array(outer.prefix(1))
      defer { renderer.scopes = outer }
      return .text(try renderer.printed(macro.body, names))
    }
  }

  private mutating func call(_ callee: Expression, with body: Statement.Macro) throws {
    guard case .call(let function, let arguments) = callee else {
      throw TemplateError("'call' needs a call of a macro")
    }
    // The body sees the names around it.
    let outer = scopes
    let caller = TemplateFunction(name: "caller") { renderer, arguments in
      let inner = renderer.scopes
      renderer.scopes = outer
      defer { renderer.scopes = inner }
      let names = body.parameters.enumerated().map { ($1.name, arguments.value($0, $1.name) ?? .undefined($1.name)) }
      return .text(try renderer.printed(body.body, TemplateMapping(names)))
    }
    var given = try evaluate(arguments)
    given.named.append(("caller", .function(caller)))
    try write(call(evaluate(function), given).printed)
  }

  mutating func call(_ value: TemplateValue, _ arguments: TemplateArguments) throws -> TemplateValue {
    guard case .function(let function) = value else {
      if case .undefined(let name) = value { throw TemplateError("'\(name)' is undefined, so it cannot be called") }
      throw TemplateError("\(value.kind) cannot be called")
    }
    try step()
    for value in arguments.values + arguments.named.map(\.value) { try weigh(value) }
    return try nested { try function.body(&$0, arguments) }
  }
}
