import FermataLayers
import FermataTensors

/// One memory of a mixture: its own keys and values, and its rule.
public struct RoutedMemory: Module {
  /// Keys, values and the rule's columns in one product.
  public var input: Linear
  public var rule: any MemoryRule
  private let memory: MatrixMemory

  init(_ kind: MemoryKind, width: Int, random: inout RandomSource) throws {
    memory = kind.memory
    rule = try kind.makeRule(&random)
    input = try Linear(
      width, memory.heads * (memory.keyWidth + memory.valueWidth) + rule.columns, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("in_proj", &input)
    try rule.visitParameters(&visitor)
  }

  /// What tokens x (batch, length, width) with queries (batch, length, heads · keyWidth) ask and write.
  func tokens(_ x: Tensor, query: Tensor, positions: Tensor?) throws -> MatrixTokens {
    let (heads, keyWidth, valueWidth) = (memory.heads, memory.keyWidth, memory.valueWidth)
    let parts = try input(x).split(sizes: [heads * keyWidth, heads * valueWidth, rule.columns], axis: 2)
    func headed(_ x: Tensor, _ width: Int) throws -> Tensor {
      try x.reshaped(Array(x.shape.prefix(2)) + [heads, width])
    }
    var tokens = try MatrixTokens(
      query: headed(query, keyWidth), key: headed(parts[0], keyWidth), value: headed(parts[1], valueWidth))
    try rule.complete(&tokens, x: x, columns: parts[2], positions: positions)
    return tokens
  }
}
