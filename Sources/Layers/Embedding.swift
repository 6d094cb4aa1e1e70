import FermataTensors

/// A table of vectors (vocabulary, width) looked up by token.
public struct Embedding: Module {
  public var weight: Tensor

  public init(weight: Tensor) { self.weight = weight }

  public init(_ vocabulary: Int, _ width: Int, deviation: Float = 0.02, random: inout RandomSource) throws {
    weight = try random.normal([vocabulary, width], deviation: deviation)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight", &weight)
  }

  /// tokens (…), I32, to (…, width)
  public func callAsFunction(_ tokens: Tensor) throws -> Tensor { try weight.rows(at: tokens) }
}
