import FermataLayers
import FermataTensors

/// The delta rule, or DeltaNet (Schlag et al. 2021; in chunks Yang et al. 2024): each token replaces what its key recalls.
///
///     S_t = (I − β_t k_tᵀ k_t) S_{t-1} + β_t k_tᵀ v_t,   o_t = q_t S_t / √keyWidth,   y = W_o norm(o)
///
/// q, k (batch, length, heads, keyWidth) are of length one after silu, v (batch, length, heads, valueWidth) goes through silu,
/// and β (batch, length, heads) is in (0, 1), or with `allow_neg_eigval` in (0, 2).
///
/// `conv_size` (0: none) puts a short convolution before silu.
///
/// State: (batch, heads, keyWidth, valueWidth) f32, whatever the length: bytes = 4 · batch · width · keyWidth, and with a convolution
/// 4 · batch · (conv_size − 1) · (2 · heads · keyWidth + width).
/// Cost per token: 6 · width · keyWidth. Merge: a keyWidth × keyWidth matrix and an increment per head, which is dear.
/// Bad at: forgetting, since only what a key recalls is ever replaced; more associations than keyWidth a head.
public struct DeltaRule: ConvolvedMatrixMixer {
  public struct Options: Codable, Sendable {
    public var heads: Int
    public var keyWidth: Int?
    public var allowsNegativeEigenvalues: Bool?
    public var convolutionWidth: Int?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case heads = "num_heads"
      case keyWidth = "key_dim"
      case allowsNegativeEigenvalues = "allow_neg_eigval"
      case convolutionWidth = "conv_size"
    }

    func check(_ mixer: String) throws {
      let size = convolutionWidth ?? 0
      guard size == 0 || (2...64).contains(size) else {
        throw ConfigurationError("mixer '\(mixer)'", "conv_size must be 0 or in 2...64, got \(size)")
      }
    }

    /// A convolution's tail is no part of a memory.
    func requireRuleAlone(_ mixer: String) throws {
      guard convolutionWidth ?? 0 == 0 else {
        throw ConfigurationError("mixer '\(mixer)'", "conv_size must be 0 in a mixture's memory")
      }
    }
  }

  public static let name = "delta_rule"
  public static let card = MixerCard(
    family: .linearAttention, summary: "a matrix per head in which each token replaces what its key recalls (DeltaNet)",
    state: "4 · width · keyWidth, and a convolution's tail", cost: "6 · width · keyWidth",
    weakness: "forgetting: only what a key recalls is ever replaced",
    source: "Schlag et al. 2021; Yang et al. 2024; Grazzi et al. 2025")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
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
    update = try DeltaUpdate(options, decays: false, random: &random)
    projections = try MemoryProjections(
      memory, width: width, columns: update.columns, convolutionWidth: options.convolutionWidth ?? 0, isGated: false,
      random: &random)
  }

  public static func memory(width: Int, options: Options) throws -> MatrixMemory {
    try MatrixMemory(Self.name, width: width, heads: options.heads, keyWidth: options.keyWidth, isDelta: true)
  }

  public static func rule(
    _ memory: MatrixMemory, width: Int, options: Options, random: inout RandomSource
  ) throws -> DeltaUpdate {
    try options.requireRuleAlone(Self.name)
    return try DeltaUpdate(options, decays: false, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try projections.visitParameters(&visitor)
    try update.visitParameters(&visitor)
  }
}
