/// What is wrong with a template, or with what it was given: where and why.
public struct TemplateError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Line of the template, counted from 1; 0 where there is none.
  public let line: Int
  /// What is wrong.
  public let problem: String
  /// Whether the template itself refused what it was given (`raise_exception`).
  public let isRefusal: Bool

  init(_ problem: String, line: Int = 0, isRefusal: Bool = false) {
    self.problem = problem
    self.line = line
    self.isRefusal = isRefusal
  }

  public var description: String { "template" + (line > 0 ? ", line \(line)" : "") + ": \(problem)" }

  /// The same error with a line, unless it has one.
  func at(_ line: Int) -> TemplateError {
    self.line > 0 ? self : TemplateError(problem, line: line, isRefusal: isRefusal)
  }
}
