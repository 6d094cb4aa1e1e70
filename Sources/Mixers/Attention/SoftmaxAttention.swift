import FermataLayers
import FermataTensors

/// Softmax attention (Vaswani et al. 2017) with grouped queries (Ainslie et al. 2023), rotary positions (Su et al. 2021), and
/// optionally a window (Beltagy et al. 2020) with sinks (Xiao et al. 2024).
///
///     o_t = Σ_{s seen by t} softmax_s(q_t · k_s / √d) v_s
///
/// State: keys and values (entries, batch, keyValueHeads, headWidth): all of them, or with a window of W the sinks and the last
/// W - 1, which makes it constant: bytes = 2 · entries · batch · keyValueHeads · headWidth · size of an element.
/// Cost per token: 4 · entries · heads · headWidth. Merge: keys and values concatenate.
/// Bad at: length, without a window; anything beyond the window, with one.
public struct SoftmaxAttention: RegisteredMixer, MergingMixer {
  public struct Options: Codable, Sendable {
    public var heads: Int
    public var keyValueHeads: Int?
    public var headWidth: Int?
    public var window: Int?
    public var sinks: Int?
    public var rotaryBase: Double?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case heads = "num_attention_heads"
      case keyValueHeads = "num_key_value_heads"
      case headWidth = "head_dim"
      case window = "sliding_window"
      case sinks
      case rotaryBase = "rope_theta"
    }
  }

  public static let name = "softmax_attention"
  public static let card = MixerCard(
    family: .attention, summary: "exact attention, grouped queries, rotary positions, optional window and sinks",
    state: "2 · entries · keyValueHeads · headWidth · element size (entries: tokens, or window - 1 + sinks)",
    cost: "4 · entries · heads · headWidth",
    weakness: "length, without a window; anything beyond the window, with one",
    source: "Vaswani et al. 2017; Ainslie et al. 2023; Su et al. 2021; Beltagy et al. 2020; Xiao et al. 2024")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    #"{"num_attention_heads": 4, "num_key_value_heads": 2}"#,
    #"{"num_attention_heads": 2, "sliding_window": 9}"#,
    #"{"num_attention_heads": 2, "sliding_window": 9, "sinks": 2}"#,
  ]

  public var queryKeyValue: Linear
  public var output: Linear
  public let core: AttentionCore
  public var heads: Int { core.heads }
  public var keyValueHeads: Int { core.keyValueHeads }
  public var headWidth: Int { core.headWidth }
  public var window: Int { core.window }
  public var sinks: Int { core.sinks }

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    let heads = options.heads
    let keyValueHeads = options.keyValueHeads ?? options.heads
    guard heads > 0, keyValueHeads > 0, heads % keyValueHeads == 0 else {
      throw ConfigurationError(
        "mixer '\(Self.name)'", "num_key_value_heads (\(keyValueHeads)) must divide num_attention_heads (\(heads))")
    }
    guard options.headWidth != nil || width % heads == 0 else {
      throw ConfigurationError(
        "mixer '\(Self.name)'", "num_attention_heads (\(heads)) must divide the width (\(width)), or give head_dim")
    }
    let headWidth = options.headWidth ?? width / heads
    let window = options.window ?? 0
    let sinks = options.sinks ?? 0
    guard headWidth > 0, headWidth % 2 == 0, headWidth <= 4096, heads <= 4096 else {
      throw ConfigurationError("mixer '\(Self.name)'", "head_dim must be even and in 2...4096, got \(headWidth)")
    }
    let reach = 0...(1 << 40)
    guard reach.contains(window), reach.contains(sinks), sinks == 0 || window > 0 else {
      throw ConfigurationError(
        "mixer '\(Self.name)'", "sinks need a sliding_window, and both must be in 0...2^40, got \(sinks) and \(window)")
    }
    let base = options.rotaryBase ?? 10_000
    guard base > 1, base.isFinite else {
      throw ConfigurationError("mixer '\(Self.name)'", "rope_theta must be above 1, got \(base)")
    }
    var core = AttentionCore(heads: heads, keyValueHeads: keyValueHeads, headWidth: headWidth)
    (core.window, core.sinks) = (window, sinks)
    core.positions = try RotaryPositions(width: headWidth, base: base)
    self.core = core
    queryKeyValue = try Linear(width, (heads + 2 * keyValueHeads) * headWidth, random: &random)
    output = try Linear(heads * headWidth, width, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("qkv_proj", &queryKeyValue)
    try visitor.module("o_proj", &output)
  }

  public var laws: Laws { Laws(cut: .causal, merge: .associative(cost: "keys and values of the stretch")) }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    core.stateBytes(batch: batch, length: length, dtype: dtype)
  }

  public func initialState(batch: Int) throws -> MixerState {
    // The type of the entries is known with the first piece.
    MixerState(tensors: [:])
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let (query, key, value) = try projections(piece.sequence(for: Self.name))
    return try output(core(query: query, key: key, value: value, layout: piece.layout, state: &state))
  }

  private func projections(_ piece: Piece) throws -> (Tensor, Tensor, Tensor) {
    let (queryWidth, keyWidth) = (heads * headWidth, keyValueHeads * headWidth)
    let parts = try queryKeyValue(piece.values).split(sizes: [queryWidth, keyWidth, keyWidth], axis: 2)
    return (parts[0], parts[1], parts[2])
  }

  /// Queries, keys and values (batch, length, heads, headWidth), turned to the positions.
  func projections(_ piece: Piece, positions: Tensor) throws -> (Tensor, Tensor, Tensor) {
    let (query, key, value) = try projections(piece)
    return try core.turned(query: query, key: key, value: value, layout: piece.layout, positions: positions)
  }

  // MARK: Merge law

  /// Keys and values of the stretch, and the positions they stand at relative to its start: rotary turns by absolute
  /// position, so a summary is made for the position where it will stand.
  public func summarise(_ piece: Piece) throws -> Summary {
    let positions = try piece.absolutePositions(for: Self.name)
    try require(
      piece.layout.resets == nil && piece.layout.valid == nil, "summarise",
      expected: "a stretch of one document without padding", got: "resets or padding",
      advice: "summarise each document by itself")
    let (_, key, value) = try projections(piece, positions: positions)
    return Summary(
      length: piece.length,
      tensors: ["keys": try key.transposed(0, 1).contiguous(), "values": try value.transposed(0, 1).contiguous()])
  }

  public func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    func join(_ name: String) throws -> Tensor {
      try Tensor.concatenated([left.tensor(name), right.tensor(name)], axis: 0)
    }
    return Summary(
      length: left.length + right.length, tensors: ["keys": try join("keys"), "values": try join("values")])
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    let (keys, values) = (try summary.tensor("keys"), try summary.tensor("values"))
    try require(keys.rank == 4, "advance", expected: "a summary of softmax attention", got: "keys \(keys)")
    let layout = Layout(batch: keys.shape[1], length: summary.length)
    var next = try AttentionMemory(state, layout: layout, window: window, sinks: sinks)
    try next.append(keys: keys, values: values)
    state = try next.finish()
  }
}
