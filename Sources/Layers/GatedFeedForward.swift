import FermataTensors

/// Gated feed-forward with a matrix each (Shazeer 2020): y = down(act(gate(x)) · up(x)).
/// `FeedForward` is the same with gate and up in one matrix.
public struct GatedFeedForward: Module {
  public var gate: Linear
  public var up: Linear
  public var down: Linear
  public let activation: Activation

  public init(_ width: Int, hidden: Int, activation: Activation, bias: Bool = false, random: inout RandomSource) throws
  {
    gate = try Linear(width, hidden, bias: bias, random: &random)
    up = try Linear(width, hidden, bias: bias, random: &random)
    down = try Linear(hidden, width, bias: bias, random: &random)
    self.activation = activation
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("gate_proj", &gate)
    try visitor.module("up_proj", &up)
    try visitor.module("down_proj", &down)
  }

  public func callAsFunction(_ x: Tensor) throws -> Tensor { try down(activation(gate(x)) * up(x)) }
}
