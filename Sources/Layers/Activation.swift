import FermataTensors

/// A function of each feature, under the names that configurations give it.
public struct Activation: Sendable {
  public let name: String
  private let body: @Sendable (Tensor) throws -> Tensor

  private init(_ name: String, _ body: @escaping @Sendable (Tensor) throws -> Tensor) {
    self.name = name
    self.body = body
  }

  /// The table: one line each; some functions go by several names.
  public static let all: [Activation] = [
    Activation("silu") { try $0.silu() },
    Activation("swish") { try $0.silu() },
    Activation("gelu") { try $0.gelu() },
    Activation("gelu_python") { try $0.gelu() },
    Activation("gelu_new") { try $0.geluTanh() },
    Activation("gelu_fast") { try $0.geluTanh() },
    Activation("gelu_pytorch_tanh") { try $0.geluTanh() },
    Activation("gelu_python_tanh") { try $0.geluTanh() },
    Activation("quick_gelu") { try $0 * ($0 * 1.702).sigmoid() },
    Activation("relu") { try $0.relu() },
    Activation("relu2") { try $0.relu().squared() },
    Activation("tanh") { try $0.tanh() },
    Activation("sigmoid") { try $0.sigmoid() },
    Activation("linear") { $0 },
  ]

  /// The activation of this name; nil when there is none.
  public init?(named name: String) {
    guard let found = Self.all.first(where: { $0.name == name }) else { return nil }
    self = found
  }

  public func callAsFunction(_ x: Tensor) throws -> Tensor { try body(x) }
}
