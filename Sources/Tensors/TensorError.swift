/// Why an operation on tensors could not be done: the operation, what it expected, what came, and what to do.
public struct TensorError: Error, Sendable, Equatable, CustomStringConvertible {
  public var operation: String
  public var expected: String
  public var got: String
  public var advice: String?

  public init(_ operation: String, expected: String, got: String, advice: String? = nil) {
    self.operation = operation
    self.expected = expected
    self.got = got
    self.advice = advice
  }

  public var description: String {
    "\(operation): expected \(expected), got \(got)" + (advice.map { "; \($0)" } ?? "")
  }
}

/// Throws a `TensorError` unless the condition holds; the texts are only built when it fails.
package func require(
  _ condition: Bool, _ operation: @autoclosure () -> String, expected: @autoclosure () -> String,
  got: @autoclosure () -> String, advice: @autoclosure () -> String? = nil
) throws {
  if !condition { throw TensorError(operation(), expected: expected(), got: got(), advice: advice()) }
}
