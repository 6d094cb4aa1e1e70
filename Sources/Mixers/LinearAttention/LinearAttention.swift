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

  /// Keeps the normaliser away from zero.
  private static let epsilon: Float = 1e-6

  public var projections: MemoryProjections
  public let map: FeatureMap
  public let normalization: Normalization
  public let memory: MatrixMemory

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    map = try FeatureMap.named(options.featureMap ?? "elu_plus_one", in: Self.name)
    normalization = options.normalization ?? .sum
    guard normalization != .sum || map.isPositive else {
      throw ConfigurationError(
        "mixer '\(Self.name)'",
        "sums of '\(map.name)' features can vanish; use a normalization of \"norm\" or \"none\", or another feature_map"
      )
    }
    var memory = try MatrixMemory(Self.name, width: width, heads: options.heads, keyWidth: options.keyWidth)
    projections = try MemoryProjections(
      memory, width: width, isGated: false, isNormed: normalization == .norm, random: &random)
    if normalization == .sum {
      // z is the column of a value that is always one; the scale would cancel.
      memory.valueWidth += 1
      memory.scale = 1
    }
    self.memory = memory
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try projections.visitParameters(&visitor)
  }

  public func tokens(_ piece: Piece) throws -> MatrixTokens {
    var tokens = try projections.tokens(piece, rule: FeatureUpdate(map: map))
    if normalization == .sum { tokens.value = try withOnes(tokens.value) }
    return tokens
  }

  public func outputs(_ read: Tensor, _ tokens: MatrixTokens) throws -> Tensor {
    try projections.outputs(normalization == .sum ? normalized(read, epsilon: Self.epsilon) : read, gate: nil)
  }
}

/// Values (…, valueWidth) with a column of ones, which a memory adds up to the normaliser.
func withOnes(_ values: Tensor) throws -> Tensor {
  let ones = try Tensor.ones([1, 1, 1, 1], values.dtype).broadcast(to: values.shape.dropLast() + [1])
  return try Tensor.concatenated([values, ones], axis: 3)
}

/// What was read (…, valueWidth + 1) over its last column.
func normalized(_ read: Tensor, epsilon: Float) throws -> Tensor {
  let parts = try read.split(sizes: [read.shape[3] - 1, 1], axis: 3)
  return try parts[0] / (parts[1] + epsilon)
}
