import FermataTensors

/// A value with parameters: a layer, a mixer, a model.
///
/// Each type names its own parameters, once, in `visitParameters`; loading, saving, tracking and optimising all go through
/// it, so a parameter that is visited is never forgotten by one of them.
public protocol Module: Sendable {
  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws
}

/// What a parameter is to those who do not know its meaning: optimisers, conversions, loading.
public enum ParameterRole: Sendable {
  /// What activations are multiplied with: weight decay shrinks it, and half precision may round it.
  case weight
  /// Numbers that mean something by themselves (scales, biases, rates of decay, scores): no weight decay, and always f32.
  case coefficient
}

/// Walks the parameters of a module in a fixed order, with their full names ("layers.0.mixer.in_proj.weight") and roles.
///
/// Vectors are coefficients and matrices weights; a matrix of coefficients (Mamba's A) is declared where it is visited.
public struct ParameterVisitor {
  private var path: [String] = []
  /// The role that everything inside a module was declared to have.
  private var role: ParameterRole?
  private let body: (String, ParameterRole, inout Tensor) throws -> Void

  init(_ body: @escaping (String, ParameterRole, inout Tensor) throws -> Void) { self.body = body }

  /// A parameter of the module at hand; its role goes by its rank if none is given.
  public mutating func parameter(_ name: String, _ value: inout Tensor, role given: ParameterRole? = nil) throws {
    try body(
      (path + [name]).joined(separator: "."), given ?? role ?? (value.rank >= 2 ? .weight : .coefficient), &value)
  }

  /// A parameter that may be absent.
  public mutating func parameter(_ name: String, _ value: inout Tensor?, role: ParameterRole? = nil) throws {
    guard var present = value else { return }
    // Held once, so that what changes parameters in place need not copy them.
    value = nil
    defer { value = present }
    try parameter(name, &present, role: role)
  }

  /// A module inside it that may be absent.
  public mutating func module<M: Module>(_ name: String, _ value: inout M?) throws {
    guard var present = value else { return }
    value = nil
    defer { value = present }
    try module(name, &present)
  }

  /// A module inside it; without a name its parameters count as those of the module at hand. A role given here is that of
  /// all its parameters.
  public mutating func module(_ name: String, _ value: inout some Module, role given: ParameterRole? = nil) throws {
    let outer = (path, role)
    defer { (path, role) = outer }
    if !name.isEmpty { path.append(name) }
    role = given ?? role
    try value.visitParameters(&self)
  }
}

extension Module {
  /// Calls the body for every parameter, which it may change.
  public mutating func updateParameters(_ body: (String, inout Tensor) throws -> Void) throws {
    try updateParametersByRole { name, _, value in try body(name, &value) }
  }

  /// The same for a body that also wants to know each parameter's role.
  public mutating func updateParametersByRole(_ body: (String, ParameterRole, inout Tensor) throws -> Void) throws {
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

  /// The same module with its weights in another type, for inference; coefficients (norms, biases, decays) stay f32.
  public func converted(to dtype: DType) throws -> Self {
    var copy = self
    try copy.updateParametersByRole { _, role, value in if role == .weight { value = try value.cast(to: dtype) } }
    return copy
  }

  /// Gives back the copies that products of many rows made of the weights (`ProductWeight`); they come back when needed.
  package func dropPackedWeights() throws { for (_, value) in try parameters() { value.dropPackedCopies() } }

  /// Number of parameters.
  public func parameterCount() throws -> Int { try parameters().reduce(0) { $0 + $1.value.count } }
}
