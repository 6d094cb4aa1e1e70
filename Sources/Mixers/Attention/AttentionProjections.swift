import FermataLayers
import FermataTensors

/// The four matrices around attention: queries, keys, values, and the way out.
public struct AttentionProjections: Module {
  /// What checkpoints call them.
  public struct Names: Sendable {
    public var query: String
    public var key: String
    public var value: String
    public var output: String

    public init(
      query: String = "q_proj", key: String = "k_proj", value: String = "v_proj", output: String = "o_proj"
    ) {
      (self.query, self.key, self.value, self.output) = (query, key, value, output)
    }
  }

  public var query: Linear
  public var key: Linear
  public var value: Linear
  public var output: Linear
  private let names: Names

  /// - Parameters:
  ///   - contextWidth: features that keys and values are made of; nil: as many as queries.
  ///   - bias: for queries, keys and values; `outputBias` for the way out.
  public init(
    width: Int, contextWidth: Int? = nil, queryWidth: Int, keyWidth: Int, bias: Bool, outputBias: Bool,
    names: Names = Names(), random: inout RandomSource
  ) throws {
    query = try Linear(width, queryWidth, bias: bias, random: &random)
    key = try Linear(contextWidth ?? width, keyWidth, bias: bias, random: &random)
    value = try Linear(contextWidth ?? width, keyWidth, bias: bias, random: &random)
    output = try Linear(queryWidth, width, bias: outputBias, random: &random)
    self.names = names
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module(names.query, &query)
    try visitor.module(names.key, &key)
    try visitor.module(names.value, &value)
    try visitor.module(names.output, &output)
  }
}
