import FermataLayers
import FermataTensors

/// Lightning attention, the token mixer of TransNormerLLM (Qin et al. 2023; in tiles Qin et al. 2024): linear attention with a fixed
/// decay per head.
///
///     S_t = λ_h S_{t-1} + silu(k_t)ᵀ v_t,   o_t = silu(q_t) S_t / √keyWidth,   y = W_o (norm(o) · W_u x)
///
/// q, k (batch, length, heads, keyWidth), v (batch, length, heads, valueWidth); λ_h = e^{−8 h / heads · s} for h in 0..<heads, where the paper
/// takes for s = `decay_scale` one minus the layer's number over the number of layers; the norm, over all heads at once, is a root
/// mean square norm without weights.
///
/// State: (batch, heads, keyWidth, valueWidth) f32, whatever the length: bytes = 4 · batch · width · keyWidth.
/// Cost per token: 5 · width · keyWidth. Merge: a decay and a matrix.
/// Bad at: keeping what matters; what a head forgets depends on its number alone.
public struct LightningAttention: MatrixMixer {
  public struct Options: Codable, Sendable {
    public var heads: Int
    public var keyWidth: Int?
    public var decayScale: Double?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case heads = "num_heads"
      case keyWidth = "key_dim"
      case decayScale = "decay_scale"
    }
  }

  public static let name = "lightning_attention"
  public static let card = MixerCard(
    family: .linearAttention, summary: "a matrix per head with a fixed decay (TransNormerLLM, Lightning Attention-2)",
    state: "4 · width · keyWidth", cost: "5 · width · keyWidth",
    weakness: "keeping what matters: what a head forgets depends on its number alone",
    source: "Qin et al. 2023; Qin et al. 2024")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    #"{"num_heads": 2}"#,
    #"{"num_heads": 2, "key_dim": 5, "decay_scale": 0.25}"#,
  ]

  private static let epsilon: Float = 1e-6

  public var projections: MemoryProjections
  public let memory: MatrixMemory
  public let update: FixedDecayUpdate

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    memory = try Self.memory(width: width, options: options)
    update = try Self.rule(memory, width: width, options: options, random: &random)
    projections = try MemoryProjections(memory, width: width, isGated: true, isNormed: false, random: &random)
  }

  public static func memory(width: Int, options: Options) throws -> MatrixMemory {
    try MatrixMemory(Self.name, width: width, heads: options.heads, keyWidth: options.keyWidth)
  }

  public static func rule(
    _ memory: MatrixMemory, width: Int, options: Options, random: inout RandomSource
  ) throws -> FixedDecayUpdate {
    let scale = options.decayScale ?? 1
    guard scale >= 0, scale <= 1000 else {
      throw ConfigurationError("mixer '\(Self.name)'", "decay_scale must be in 0...1000, got \(scale)")
    }
    return try FixedDecayUpdate(heads: memory.heads, scale: scale)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try projections.visitParameters(&visitor)
  }

  public func outputs(_ read: Tensor, _ tokens: MatrixTokens) throws -> Tensor {
    let (batch, length, width) = (read.shape[0], read.shape[1], memory.heads * memory.valueWidth)
    let normed = try rmsNorm(
      read.reshaped([batch, length, width]), weight: Tensor.ones([width]), epsilon: Self.epsilon)
    guard let gate = tokens.outputGate else { return try projections.output(normed) }
    return try projections.output(normed * gate.reshaped([batch, length, width]))
  }
}

/// silu before a memory that decays by a fixed number per head: how lightning attention writes.
public struct FixedDecayUpdate: MemoryRule {
  /// The logarithm of the decay (1, 1, heads).
  private let gate: Tensor

  /// −8 h / heads · scale
  init(heads: Int, scale: Double) throws {
    gate = try Tensor((0..<heads).map { Float(-8 * Double($0) / Double(heads) * scale) }, shape: [1, 1, heads])
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {}

  public func complete(_ tokens: inout MatrixTokens, x: Tensor, columns: Tensor, positions: Tensor?) throws {
    tokens.query = try tokens.query.silu()
    tokens.key = try tokens.key.silu()
    tokens.gate = try gate.broadcast(to: Array(tokens.query.shape.dropLast()))
  }
}
