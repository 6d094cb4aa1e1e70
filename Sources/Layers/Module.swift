import FermataTensors

/// A value with parameters: a layer, a mixer, a model.
///
/// Each type names its own parameters, once, in `visitParameters`; loading, saving, tracking and optimising all go through
/// it, so a parameter that is visited is never forgotten by one of them.
public protocol Module: Sendable {
  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws
}

/// Walks the parameters of a module in a fixed order, with their full names ("layers.0.mixer.in_proj.weight").
public struct ParameterVisitor {
  private var path: [String] = []
  private let body: (String, inout Tensor) throws -> Void

  init(_ body: @escaping (String, inout Tensor) throws -> Void) { self.body = body }

  /// A parameter of the module at hand.
  public mutating func parameter(_ name: String, _ value: inout Tensor) throws {
    try body((path + [name]).joined(separator: "."), &value)
  }

  /// A parameter that may be absent.
  public mutating func parameter(_ name: String, _ value: inout Tensor?) throws {
    guard var present = value else { return }
    try body((path + [name]).joined(separator: "."), &present)
    value = present
  }

  /// A module inside it that may be absent.
  public mutating func module<M: Module>(_ name: String, _ value: inout M?) throws {
    guard var present = value else { return }
    try module(name, &present)
    value = present
  }

  /// A module inside it; without a name its parameters count as those of the module at hand.
  public mutating func module(_ name: String, _ value: inout some Module) throws {
    if name.isEmpty { return try value.visitParameters(&self) }
    path.append(name)
    defer { path.removeLast() }
    try value.visitParameters(&self)
  }
}

extension Module {
  /// Calls the body for every parameter, which it may change.
  public mutating func updateParameters(_ body: (String, inout Tensor) throws -> Void) throws {
    try withoutActuallyEscaping(body) { body in
      var visitor = ParameterVisitor(body)
      try visitParameters(&visitor)
    }
  }

  /// Names and values in visiting order.
  public func parameters() throws -> [(name: String, value: Tensor)] {
    var copy = self
    var found: [(String, Tensor)] = []
    try copy.updateParameters { found.append(($0, $1)) }
    return found
  }

  /// The same module with every parameter tracked, for one forward and backward.
  public func tracked() throws -> Self {
    var copy = self
    try copy.updateParameters { $1 = $1.tracked() }
    return copy
  }

  /// The same module with its matrices in another type, for inference; vectors (norms, biases, gates) stay f32.
  public func converted(to dtype: DType) throws -> Self {
    var copy = self
    try copy.updateParameters { if $1.rank >= 2 { $1 = try $1.cast(to: dtype) } }
    return copy
  }

  /// Gives back the copies that products of many rows made of the weights (`ProductWeight`); they come back when needed.
  package func dropPackedWeights() throws { for (_, value) in try parameters() { value.dropPackedCopies() } }

  /// Number of parameters.
  public func parameterCount() throws -> Int { try parameters().reduce(0) { $0 + $1.value.count } }
}
