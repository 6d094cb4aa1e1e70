/// What stands in a tag and has a value.
indirect enum Expression: Sendable {
  case literal(Literal)
  case name(String)
  case list([Expression])
  case tuple([Expression])
  case dictionary([(key: Expression, value: Expression)])
  case attribute(Expression, String)
  case index(Expression, Expression)
  case slice(Expression, from: Expression?, to: Expression?, by: Expression?)
  case call(Expression, Arguments)
  case filter(Expression, String, Arguments)
  case test(Expression, String, Arguments)
  case negation(Expression)
  case minus(Expression)
  case both(Expression, Expression)
  case either(Expression, Expression)
  case operation(String, Expression, Expression)
  /// a < b <= c: each neighbouring pair holds.
  case comparison(Expression, [(operation: String, operand: Expression)])
  case conditional(Expression, then: Expression, otherwise: Expression?)

  enum Literal: Sendable {
    case none, bool(Bool), integer(Int), double(Double), text(String)
  }

  /// What a call is given: by place, then by name.
  struct Arguments: Sendable {
    var values: [Expression] = []
    var named: [(name: String, value: Expression)] = []
  }
}

/// What a template does, tag by tag.
struct Statement: Sendable {
  indirect enum Kind: Sendable {
    case text(String)
    case output(Expression)
    case branches([(condition: Expression, body: [Statement])], otherwise: [Statement])
    case loop(Loop)
    case assignment(Target, Expression)
    /// `{% set name %}` … `{% endset %}`, its text through filters.
    case capture(String, filters: [(name: String, arguments: Expression.Arguments)], [Statement])
    case filtered([(name: String, arguments: Expression.Arguments)], [Statement])
    case scope([(name: String, value: Expression)], [Statement])
    case macro(Macro)
    /// `{% call(parameters) macro(…) %}` … `{% endcall %}`: the body becomes `caller`.
    case call(Expression, Macro)
    /// A stretch that changes nothing but may be marked, as `{% generation %}` is.
    case group([Statement])
    case breakLoop
    case continueLoop
  }
  var kind: Kind
  var line: Int

  /// What `set` and `for` assign to.
  enum Target: Sendable {
    case name(String)
    case names([String])
    /// A member of a `namespace`.
    case member(String, String)
  }

  struct Loop: Sendable {
    var target: Target
    var sequence: Expression
    var condition: Expression?
    var body: [Statement]
    var otherwise: [Statement]
  }

  struct Macro: Sendable {
    var name: String
    var parameters: [(name: String, initial: Expression?)]
    var body: [Statement]
  }
}
