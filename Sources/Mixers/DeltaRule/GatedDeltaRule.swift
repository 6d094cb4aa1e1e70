import FermataLayers
import FermataTensors

/// The gated delta rule (Yang, Kautz & Hatamizadeh 2025): the delta rule in a memory that decays.
///
///     S_t = e^{g_t} (I − β_t k_tᵀ k_t) S_{t-1} + β_t k_tᵀ v_t,   o_t = q_t S_t / √keyWidth,   y = W_o (norm(o) · silu(W_r x))
///
/// q, k (batch, length, heads, keyWidth) are of length one after silu, v (batch, length, heads, valueWidth) goes through silu;
/// g = −e^A softplus(w x + b) and β = σ(w x), or with `allow_neg_eigval` twice that, are numbers per head.
///
/// `conv_size` (0: none) puts a short convolution before silu.
///
/// State: (batch, heads, keyWidth, valueWidth) f32, whatever the length: bytes = 4 · batch · width · keyWidth, and with a convolution
/// 4 · batch · (conv_size − 1) · (2 · heads · keyWidth + width).
/// Cost per token: 7 · width · keyWidth. Merge: a keyWidth × keyWidth matrix and an increment per head, which is dear.
/// Bad at: exact recall of more associations than keyWidth a head; what decayed is gone for all keys alike.
public struct GatedDeltaRule: ConvolvedMatrixMixer {
  public typealias Options = DeltaRule.Options

  public static let name = "gated_delta_rule"
  public static let card = MixerCard(
    family: .linearAttention, summary: "the delta rule in a matrix per head that decays (Gated DeltaNet)",
    state: "4 · width · keyWidth, and a convolution's tail", cost: "7 · width · keyWidth",
    weakness: "exact recall of more associations than keyWidth a head",
    source: "Yang, Kautz & Hatamizadeh 2025; Grazzi et al. 2025")
  public static let optionKeys = DeltaRule.optionKeys
  public static let examples = [
    #"{"num_heads": 2}"#,
    #"{"num_heads": 1, "key_dim": 5, "allow_neg_eigval": true, "conv_size": 4}"#,
  ]

  public var projections: MemoryProjections
  public var update: DeltaUpdate
  public let memory: MatrixMemory

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    try options.check(Self.name)
    memory = try Self.memory(width: width, options: options)
    update = try DeltaUpdate(options, decays: true, random: &random)
    projections = try MemoryProjections(
      memory, width: width, columns: update.columns, convolutionWidth: options.convolutionWidth ?? 0, isGated: true,
      random: &random)
  }

  public static func memory(width: Int, options: Options) throws -> MatrixMemory {
    try MatrixMemory(Self.name, width: width, heads: options.heads, keyWidth: options.keyWidth, isDelta: true)
  }

  public static func rule(
    _ memory: MatrixMemory, width: Int, options: Options, random: inout RandomSource
  ) throws -> DeltaUpdate {
    try options.requireRuleAlone(Self.name)
    return try DeltaUpdate(options, decays: true, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try projections.visitParameters(&visitor)
    try update.visitParameters(&visitor)
  }
}
