import FermataLayers
import FermataTensors

/// One memory of a mixture: its own keys and values, and its rule.
public struct RoutedMemory: Module {
  /// Keys, values and the rule's columns in one product.
  public var input: Linear
  public var rule: any MemoryRule
  private let memory: MatrixMemory

  init(_ memory: MatrixMemory, width: Int, rule: any MemoryRule, random: inout RandomSource) throws {
    self.memory = memory
    self.rule = rule
    input = try Linear(
      width, memory.heads * (memory.keyWidth + memory.valueWidth) + rule.columns, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("in_proj", &input)
    try rule.visitParameters(&visitor)
  }

  /// What tokens x (batch, length, width) with queries (batch, length, heads · keyWidth) ask and write.
  func tokens(_ x: Tensor, query: Tensor) throws -> MatrixTokens {
    let (heads, keyWidth, valueWidth) = (memory.heads, memory.keyWidth, memory.valueWidth)
    let parts = try input(x).split(sizes: [heads * keyWidth, heads * valueWidth, rule.columns], axis: 2)
    func headed(_ x: Tensor, _ width: Int) throws -> Tensor {
      try x.reshaped(Array(x.shape.prefix(2)) + [heads, width])
    }
    var tokens = try MatrixTokens(
      query: headed(query, keyWidth), key: headed(parts[0], keyWidth), value: headed(parts[1], valueWidth))
    try rule.complete(&tokens, x: x, columns: parts[2])
    return tokens
  }
}

/// A rule that mixtures of memories can name: one line each.
struct NamedRule: Sendable {
  /// The mixer whose rule it is.
  let name: String
  let isDelta: Bool
  let make: @Sendable (MatrixMemory, _ width: Int, inout RandomSource) throws -> any MemoryRule

  static let all = [
    NamedRule(name: LinearAttention.name, isDelta: false) { _, _, _ in FeatureUpdate(map: .eluPlusOne) },
    NamedRule(name: LightningAttention.name, isDelta: false) { memory, _, _ in
      try FixedDecayUpdate(heads: memory.heads, scale: 1)
    },
    NamedRule(name: GatedLinearAttention.name, isDelta: false) { memory, width, random in
      try GateUpdate(memory, width: width, gate: .vector, random: &random)
    },
    NamedRule(name: DeltaRule.name, isDelta: true) { memory, _, random in
      try DeltaUpdate(DeltaRule.Options(heads: memory.heads), decays: false, random: &random)
    },
    NamedRule(name: GatedDeltaRule.name, isDelta: true) { memory, _, random in
      try DeltaUpdate(DeltaRule.Options(heads: memory.heads), decays: true, random: &random)
    },
  ]

  static func named(_ name: String, in mixer: String) throws -> NamedRule {
    guard let rule = all.first(where: { $0.name == name }) else {
      let known = all.map(\.name).joined(separator: ", ")
      throw ConfigurationError("mixer '\(mixer)'", "there is no memory '\(name)' (known: \(known))")
    }
    return rule
  }
}
