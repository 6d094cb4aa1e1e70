import FermataTensors

/// Feed-forward without a gate (Vaswani et al. 2017): y = contract(act(expand(x))), both with a bias.
public struct PlainFeedForward: Module {
  /// What checkpoints call the parts.
  public struct Names: Sendable {
    public var expand: String
    public var contract: String

    public init(expand: String, contract: String) { (self.expand, self.contract) = (expand, contract) }
  }

  public var expand: Linear
  public var contract: Linear
  public let activation: Activation
  private let names: Names

  public init(_ width: Int, hidden: Int, activation: Activation, names: Names, random: inout RandomSource) throws {
    expand = try Linear(width, hidden, bias: true, random: &random)
    contract = try Linear(hidden, width, bias: true, random: &random)
    self.activation = activation
    self.names = names
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module(names.expand, &expand)
    try visitor.module(names.contract, &contract)
  }

  public func callAsFunction(_ x: Tensor) throws -> Tensor { try contract(activation(expand(x))) }
}
