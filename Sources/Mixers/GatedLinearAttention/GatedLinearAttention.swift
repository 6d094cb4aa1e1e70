import FermataLayers
import FermataTensors

/// Gated linear attention: a matrix per head that decays by a gate computed from the input.
///
///     S_t = diag(e^{g_t}) S_{t-1} + k_tᵀ v_t,   o_t = q_t S_t / √keyWidth,   y = W_o (norm(o) · silu(W_r x))
///
/// `gate` "vector": one decay per key feature, g = log σ(x W₁ W₂ + b) / 16 (GLA, Yang et al. 2024);
/// "scalar": one per head, g = −e^A · Δ, Δ = softplus(x w + b), and v scaled by Δ (the recurrence of Mamba-2, Dao & Gu 2024).
///
/// State: (batch, heads, keyWidth, valueWidth) f32, whatever the length: bytes = 4 · batch · width · keyWidth.
/// Cost per token: 5 · width · keyWidth. Merge: a decay product and a matrix.
/// Bad at: exact recall of many things at once; the state holds about keyWidth of them a head.
public struct GatedLinearAttention: MatrixMixer {
  /// What decays together.
  public enum Gate: String, Codable, Sendable, CaseIterable { case vector, scalar }

  public struct Options: Codable, Sendable {
    public var heads: Int
    public var keyWidth: Int?
    public var gate: Gate?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case heads = "num_heads"
      case keyWidth = "key_dim"
      case gate
    }
  }

  public static let name = "gated_linear_attention"
  public static let card = MixerCard(
    family: .linearAttention, summary: "a decaying matrix per head; vector gates (GLA) or scalar decay (Mamba-2)",
    state: "4 · width · keyWidth", cost: "5 · width · keyWidth",
    weakness: "exact recall of many things at once: the state holds about keyWidth of them a head",
    source: "Yang et al. 2024; Dao & Gu 2024")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    #"{"num_heads": 2}"#,
    #"{"num_heads": 2, "key_dim": 5, "gate": "scalar"}"#,
  ]

  public var projections: MemoryProjections
  public var update: GateUpdate
  public let memory: MatrixMemory

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    memory = try Self.memory(width: width, options: options)
    projections = try MemoryProjections(
      memory, width: width, columns: options.gate == .scalar ? options.heads : 0, isGated: true, random: &random)
    update = try Self.rule(memory, width: width, options: options, random: &random)
  }

  public static func memory(width: Int, options: Options) throws -> MatrixMemory {
    let keyWidth = options.keyWidth ?? max(1, width / max(1, options.heads) / 2)
    return try MatrixMemory(Self.name, width: width, heads: options.heads, keyWidth: keyWidth)
  }

  public static func rule(
    _ memory: MatrixMemory, width: Int, options: Options, random: inout RandomSource
  ) throws -> GateUpdate {
    try GateUpdate(memory, width: width, gate: options.gate ?? .vector, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try projections.visitParameters(&visitor)
    try update.visitParameters(&visitor)
  }
}
