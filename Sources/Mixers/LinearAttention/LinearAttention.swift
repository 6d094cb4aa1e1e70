import FermataLayers
import FermataTensors

/// Linear attention (Katharopoulos et al. 2020): softmax's exponential is replaced by a product of feature maps, so that what was
/// read so far fits in a matrix.
///
///     S_t = S_{t-1} + φ(k_t)ᵀ v_t,   z_t = z_{t-1} + φ(k_t),   o_t = φ(q_t) S_t / (φ(q_t) · z_t),   y = W_o o
///
/// q, k (batch, length, heads, keyWidth), v (batch, length, heads, valueWidth). `feature_map` is φ: `elu_plus_one`, `relu`, `silu` or
/// `identity`. `normalization` is "sum", as above; "norm", a root mean square norm of φ(q) S instead (TransNormer's, Qin et al. 2022,
/// whose gradients stay bounded); or "none".
///
/// State: (batch, heads, keyWidth, valueWidth, and one more column for z) f32: bytes = 4 · batch · keyWidth · (width + heads), or
/// 4 · batch · keyWidth · width without z. Cost per token: 4 · width · keyWidth. Merge: matrices add up.
/// Bad at: forgetting; recent tokens count as little as all others, so recall fades as the sequence grows.
public struct LinearAttention: MatrixMixer {
  /// What keeps outputs from growing with the number of tokens.
  public enum Normalization: String, Codable, Sendable, CaseIterable { case sum, norm, none }

  public struct Options: Codable, Sendable {
    public var heads: Int
    public var keyWidth: Int?
    public var featureMap: String?
    public var normalization: Normalization?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case heads = "num_heads"
      case keyWidth = "key_dim"
      case featureMap = "feature_map"
      case normalization
    }
  }

  public static let name = "linear_attention"
  public static let card = MixerCard(
    family: .linearAttention, summary: "a matrix per head that adds up; feature maps, with normaliser or norm",
    state: "4 · keyWidth · (width + heads), or 4 · keyWidth · width without normaliser", cost: "4 · width · keyWidth",
    weakness: "forgetting: recall fades as the sequence grows",
    source: "Katharopoulos et al. 2020; Qin et al. 2022")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  // Not relu with a norm: where all features of a query vanish the norm has a kink, and differences measure no slope there.
  // Its gradients are held to reference code instead.
  public static let examples = [
    #"{"num_heads": 2}"#,
    #"{"num_heads": 2, "key_dim": 5, "feature_map": "elu_plus_one", "normalization": "norm"}"#,
    #"{"num_heads": 1, "feature_map": "identity", "normalization": "none"}"#,
  ]

  public var projections: MemoryProjections
  public let update: FeatureUpdate
  public let memory: MatrixMemory

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    memory = try Self.memory(width: width, options: options)
    update = try Self.rule(memory, width: width, options: options, random: &random)
    projections = try MemoryProjections(
      memory, width: width, isGated: false, isNormed: options.normalization == .norm, random: &random)
  }

  public static func memory(width: Int, options: Options) throws -> MatrixMemory {
    var memory = try MatrixMemory(Self.name, width: width, heads: options.heads, keyWidth: options.keyWidth)
    if options.normalization ?? .sum == .sum {
      // A scale would cancel.
      (memory.normalizes, memory.scale) = (true, 1)
    }
    return memory
  }

  public static func rule(
    _ memory: MatrixMemory, width: Int, options: Options, random: inout RandomSource
  ) throws -> FeatureUpdate {
    let map = try FeatureMap.named(options.featureMap ?? "elu_plus_one", in: Self.name)
    guard map.isPositive || !memory.normalizes else {
      throw ConfigurationError(
        "mixer '\(Self.name)'",
        "sums of '\(map.name)' features can vanish; use a normalization of \"norm\" or \"none\", or another feature_map"
      )
    }
    return FeatureUpdate(map: map)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try projections.visitParameters(&visitor)
  }
}
