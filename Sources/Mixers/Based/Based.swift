import FermataLayers
import FermataTensors

/// Based (Arora et al. 2024): linear attention whose features expand the exponential to second order sees far, and softmax attention
/// over a small window beside it sees sharply.
///
///     S_t = S_{t-1} + φ(k_t)ᵀ v_t,   z_t = z_{t-1} + φ(k_t),   y = W_o (φ(q_t) S_t / (φ(q_t) · z_t)) + window(x)_t
///
/// φ(q) · φ(k) = 1 + s + s²/2 for s = q · k / √`feature_dim`; q, k (batch, length, heads, feature_dim), v (batch, length, heads, valueWidth).
/// `sliding_window` is the number of tokens that the softmax sees (64; 0: there is none), with rotary positions.
///
/// State: (batch, heads, 1 + f + f (f + 1) / 2, valueWidth + 1) f32 with f = feature_dim, and the window's keys and values: bytes =
/// batch · (4 · features · (width + heads) + 2 · min(tokens, window − 1) · width · size of an element), constant once the window is full.
/// Cost per token: 4 · features · width + 4 · window · width. Merge: matrices add up; the window's keys and values concatenate.
/// Bad at: forgetting, and recall of many things far back: features stand close together.
public struct Based: MatrixMixer {
  public struct Options: Codable, Sendable {
    public var heads: Int
    public var featureWidth: Int?
    public var window: Int?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case heads = "num_heads"
      case featureWidth = "feature_dim"
      case window = "sliding_window"
    }
  }

  public static let name = "based"
  public static let card = MixerCard(
    family: .linearAttention, summary: "linear attention with Taylor features beside softmax over a small window",
    state: "4 · features · (width + heads) + 2 · (window - 1) · width · element size, features: 1 + f + f (f + 1) / 2",
    cost: "4 · features · width + 4 · window · width",
    weakness: "forgetting, and recall of many things beyond the window", source: "Arora et al. 2024")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    #"{"num_heads": 2, "feature_dim": 4, "sliding_window": 9}"#,
    #"{"num_heads": 1, "feature_dim": 3, "sliding_window": 0}"#,
  ]

  public var projections: MemoryProjections
  public var window: SoftmaxAttention?
  public let memory: MatrixMemory
  public let update = FeatureUpdate(map: .taylor)

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    memory = try Self.memory(width: width, options: options)
    projections = try MemoryProjections(memory, width: width, isGated: false, isNormed: false, random: &random)
    let reach = options.window ?? 64
    guard reach > 0 else { return }
    // Rotary turns pairs of features, so heads of an odd width get one more.
    let headWidth = (width / options.heads + 1) / 2 * 2
    window = try SoftmaxAttention(
      width: width, options: .init(heads: options.heads, headWidth: headWidth, window: reach), random: &random)
  }

  public static func memory(width: Int, options: Options) throws -> MatrixMemory {
    let (features, reach) = (options.featureWidth ?? 16, options.window ?? 64)
    guard (1...32).contains(features), reach >= 0 else {
      throw ConfigurationError(
        "mixer '\(Self.name)'",
        "feature_dim must be in 1...32 and sliding_window at least 0, got \(features) and \(reach)")
    }
    var memory = try MatrixMemory(Self.name, width: width, heads: options.heads, keyWidth: features)
    memory.features = taylorWidth(features)
    (memory.normalizes, memory.scale) = (true, 1)
    return memory
  }

  public static func rule(
    _ memory: MatrixMemory, width: Int, options: Options, random: inout RandomSource
  ) throws -> FeatureUpdate {
    guard options.window ?? 0 == 0 else {
      throw ConfigurationError("mixer '\(Self.name)'", "sliding_window must be 0 in a mixture's memory")
    }
    return FeatureUpdate(map: .taylor)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try projections.visitParameters(&visitor)
    try visitor.module("window", &window)
  }

  // MARK: The window beside the memory

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    memory.stateBytes(batch: batch) + (window?.stateBytes(batch: batch, length: length, dtype: dtype) ?? 0)
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let piece = try piece.sequence(for: Self.name)
    let tokens = try tokens(piece)
    var next = state
    let far = try outputs(memory.read(tokens, piece.layout, state: &next), tokens)
    guard let window else {
      state = next
      return far
    }
    var near = state
    let outputs = try far + window(piece, state: &near)
    near[MatrixMemory.name] = next[MatrixMemory.name]
    state = near
    return outputs
  }

  public var laws: Laws {
    Laws(
      cut: .causal,
      merge: .associative(
        cost: "a decay and a matrix per head" + (window == nil ? "" : ", the stretch's keys and values")))
  }

  public func summarise(_ piece: Piece) throws -> Summary {
    let piece = try piece.sequence(for: Self.name)
    var summary = try memory.summarise(tokens(piece), piece.layout)
    guard let window else { return summary }
    summary.tensors.merge(try window.summarise(piece).tensors) { first, _ in first }
    return summary
  }

  public func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    var summary = try memory.merged(left, right)
    guard let window else { return summary }
    summary.tensors.merge(try window.merged(left, right).tensors) { first, _ in first }
    return summary
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    var next = state
    try memory.advance(&next, by: summary)
    if let window {
      var near = state
      try window.advance(&near, by: summary)
      near[MatrixMemory.name] = next[MatrixMemory.name]
      next = near
    }
    state = next
  }
}
