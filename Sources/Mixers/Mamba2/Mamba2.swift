import FermataLayers
import FermataTensors

/// Mamba-2 (Dao & Gu 2024): a matrix per head that decays by one number a token, behind a short convolution.
///
///     (z, xBC, δ) = W_in u,   (x, B, C) = silu(conv(xBC)),   Δ = clamp(softplus(δ + b_Δ), time_step_limit)
///     S_t = e^{−e^{A_log} Δ_t} S_{t-1} + B_tᵀ (Δ_t x_t),   y_t = C_t S_t + D x_t,   out = W_out norm(y · silu(z))
///
/// With E = expand · width channels in H heads of P = head_dim, N = state_size and G = n_groups: x, z (batch, length, H, P),
/// B, C (batch, length, G, N), each shared by H / G heads; δ (batch, length, H); the norm (root mean square) is taken over each of
/// G groups of channels.
///
/// State: S (batch, H, N, P) and the convolution's last K − 1 inputs (batch, K − 1, E + 2 G N), f32:
/// 4 · batch · (E · N + (K − 1)(E + 2 G N)) bytes, whatever the length. Cost per token: 5 · E · N beside the projections.
/// Merge: a decay and a matrix per head, and a halo of K − 1 inputs.
/// Bad at: exact recall of more things than a head's N; one decay a head forgets all of them alike.
public struct Mamba2: RegisteredMixer, ConvolvedRecurrence {
  public struct Options: Codable, Sendable {
    /// H; as many as fill the channels by default.
    public var heads: Int?
    /// P; 64 by default.
    public var headWidth: Int?
    /// N; 128 by default.
    public var stateSize: Int?
    /// G; 1 by default.
    public var groups: Int?
    /// K, the width of the convolution; 4 by default.
    public var convolutionWidth: Int?
    /// Channels over width; 2 by default.
    public var expand: Int?
    /// The least and the largest Δ; no limits by default.
    public var stepLimits: [Float]?
    /// ε of the norm; 1e-5 by default.
    public var epsilon: Float?
    /// Whether in_proj and out_proj have biases; false by default.
    public var usesBias: Bool?
    /// Whether the convolution has one; true by default.
    public var usesConvolutionBias: Bool?

    public init() {}

    enum CodingKeys: String, CodingKey, CaseIterable {
      case heads = "num_heads"
      case headWidth = "head_dim"
      case stateSize = "state_size"
      case groups = "n_groups"
      case convolutionWidth = "conv_kernel"
      case expand
      case stepLimits = "time_step_limit"
      case epsilon = "layer_norm_epsilon"
      case usesBias = "use_bias"
      case usesConvolutionBias = "use_conv_bias"
    }
  }

  public static let name = "mamba2"
  public static let card = MixerCard(
    family: .stateSpace, summary: "a matrix per head with one decay a token, behind a short convolution",
    state: "4 · (channels · stateSize + (kernel - 1) · (channels + 2 · groups · stateSize)), channels = expand · width",
    cost: "5 · expand · width · stateSize",
    weakness: "exact recall of more things than a head's state has rows: one decay forgets all of them alike",
    source: "Dao & Gu 2024")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    #"{"head_dim": 4, "state_size": 6, "n_groups": 2}"#,
    #"{"head_dim": 3, "state_size": 5, "conv_kernel": 3, "expand": 3, "time_step_limit": [0, 1], "use_bias": true, "use_conv_bias": false}"#,
  ]

  /// width → (z, xBC, δ)
  public var input: Linear
  public var convolution: ShortConvolution
  /// The bias of δ, A's logarithm and D: (H) each.
  public var stepBias: Tensor
  public var logDecay: Tensor
  public var skip: Tensor
  public var norm: GatedGroupNorm
  public var output: Linear
  public let heads: Int
  public let headWidth: Int
  public let stateSize: Int
  public let groups: Int
  public let stepLimits: ClosedRange<Float>?

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    let size = try Size(width: width, options)
    (heads, headWidth, stateSize, groups) = (size.heads, size.headWidth, size.stateSize, size.groups)
    stepLimits = try Self.limits(options.stepLimits)
    let bias = options.usesBias ?? false
    input = try Linear(width, size.channels + size.convolved + heads, bias: bias, random: &random)
    convolution = try ShortConvolution(
      channels: size.convolved, width: size.kernel, bias: options.usesConvolutionBias ?? true, random: &random)
    stepBias = try initialStepBias(heads, random: &random)
    // A begins between −1 and −16, as the paper's code draws it.
    logDecay = try random.uniform([heads], 1, 16).log()
    skip = try Tensor.ones([heads])
    norm = GatedGroupNorm(
      weight: try Tensor.ones([size.channels]), groups: groups, epsilon: options.epsilon ?? 1e-5)
    output = try Linear(size.channels, width, bias: bias, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("in_proj", &input)
    try visitor.module("conv1d", &convolution)
    try visitor.parameter("dt_bias", &stepBias)
    try visitor.parameter("A_log", &logDecay)
    try visitor.parameter("D", &skip)
    try visitor.module("norm", &norm)
    try visitor.module("out_proj", &output)
  }

  public var laws: Laws {
    Laws(
      cut: .causal,
      merge: .associative(cost: "a decay and a matrix per head, and a halo of the convolution's first and last inputs"))
  }

  private var channels: Int { heads * headWidth }

  /// The sizes that the options come to.
  private struct Size {
    var heads: Int
    var headWidth: Int
    var stateSize: Int
    var groups: Int
    var kernel: Int

    var channels: Int { heads * headWidth }
    /// What goes through the convolution: x, B and C.
    var convolved: Int { channels + 2 * groups * stateSize }

    init(width: Int, _ options: Options) throws {
      let expand = options.expand ?? 2
      headWidth = options.headWidth ?? 64
      stateSize = options.stateSize ?? 128
      groups = options.groups ?? 1
      kernel = options.convolutionWidth ?? 4
      for (key, value, most) in [
        ("expand", expand, 64), ("head_dim", headWidth, 4096), ("state_size", stateSize, 1024),
        ("n_groups", groups, 4096),
        ("conv_kernel", kernel, 64),
      ] where !(1...most).contains(value) {
        throw ConfigurationError("mixer '\(Mamba2.name)'", "\(key) must be in 1...\(most), got \(value)")
      }
      heads = options.heads ?? expand * width / headWidth
      let (filled, overflow) = heads.multipliedReportingOverflow(by: headWidth)
      guard !overflow, heads > 0, filled == expand * width else {
        throw ConfigurationError(
          "mixer '\(Mamba2.name)'",
          "num_heads (\(heads)) times head_dim (\(headWidth)) must be expand (\(expand)) times the width (\(width))")
      }
      guard heads % groups == 0 else {
        throw ConfigurationError("mixer '\(Mamba2.name)'", "n_groups (\(groups)) must divide num_heads (\(heads))")
      }
    }
  }

  private static func limits(_ given: [Float]?) throws -> ClosedRange<Float>? {
    guard let given else { return nil }
    guard given.count == 2, given[0] >= 0, given[0] <= given[1] else {
      throw ConfigurationError(
        "mixer '\(name)'", "time_step_limit must be two numbers, 0 ≤ least ≤ largest, got \(given)")
    }
    return given[0] == 0 && given[1] == .infinity ? nil : given[0]...given[1]
  }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    recurrentStateBytes(batch: batch, numbers: channels * stateSize)
  }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: [
      "state": try Tensor.zeros([batch, heads, stateSize, headWidth]),
      "convolution": try convolution.initialTail(batch: batch),
    ])
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let piece = try piece.sequence(for: Self.name)
    let position = try state.position(after: piece.length)
    let projected = try projections(piece.values)
    let layout = piece.layout
    let (convolved, tail) = try convolution(
      projected.convolved, tail: state.tensor("convolution"), resets: layout.resets, valid: layout.valid)
    let tokens = try self.tokens(convolved, steps: projected.steps, valid: layout.valid)
    let (read, final) = try gatedScan(
      query: tokens.query, key: tokens.key, value: tokens.value, gate: tokens.gate, weight: tokens.step,
      state: state.tensor("state"), resets: layout.resets, scale: 1)
    let mixed = try norm(
      read.reshaped(projected.gate.shape), skip: skip, skipped: tokens.x,
      gate: projected.gate)
    let y = try output(mixed)
    state["convolution"] = tail
    state["state"] = final
    state.position = position
    return y
  }

  /// z, xBC and δ.
  private func projections(_ x: Tensor) throws -> (gate: Tensor, convolved: Tensor, steps: Tensor) {
    let parts = try input(x).split(sizes: [channels, convolution.channels, heads], axis: 2)
    return (parts[0], parts[1], parts[2])
  }

  private struct Tokens {
    /// C and B: (batch, length, groups, stateSize).
    var query: Tensor
    var key: Tensor
    /// x: (batch, length, heads, headWidth).
    var value: Tensor
    /// The logarithm of the decay and Δ, f32 (batch, length, heads).
    var gate: Tensor
    var step: Tensor
    /// x as the convolution gave it: (batch, length, channels).
    var x: Tensor
  }

  /// What the scan reads, from the convolution's outputs; padding has Δ = 0, which neither decays nor adds.
  private func tokens(_ convolved: Tensor, steps: Tensor, valid: Tensor?) throws -> Tokens {
    let (batch, length) = (convolved.shape[0], convolved.shape[1])
    let parts = try convolved.split(sizes: [channels, groups * stateSize, groups * stateSize], axis: 2)
    var step = try stepSizes(steps)
    if let valid { step = try Tensor.selecting(valid.expanded(at: 2), step, Tensor.zeros([])) }
    return Tokens(
      query: try parts[2].reshaped([batch, length, groups, stateSize]),
      key: try parts[1].reshaped([batch, length, groups, stateSize]),
      value: try parts[0].reshaped([batch, length, heads, headWidth]), gate: try -(step * logDecay.exp()), step: step,
      x: parts[0])
  }

  /// Δ, f32 (batch, length, heads).
  private func stepSizes(_ steps: Tensor) throws -> Tensor {
    let step = try (steps.cast(to: .float32) + stepBias).softplus()
    guard let stepLimits else { return step }
    let (least, most) = (try Tensor(stepLimits.lowerBound), try Tensor(stepLimits.upperBound))
    return try Tensor.selecting(step .< least, least, Tensor.selecting(most .< step, most, step))
  }

  // MARK: Merge law

  /// xBC and, beside it, δ: the convolution's inputs and what else a token needs.
  func stretchInputs(_ piece: Piece) throws -> Tensor {
    let wanted = channels..<channels + convolution.channels + heads
    return try input(piece.values).slice(wanted, axis: 2)
  }

  func emptyStretch(batch: Int) throws -> RecurrentStretch {
    RecurrentStretch(
      decay: try Tensor.zeros([batch, heads]), increment: try Tensor.zeros([batch, heads, stateSize, headWidth]))
  }

  /// The decay of a stretch is the sum of its logarithms.
  func appending(_ inputs: Tensor, after history: Tensor, to stretch: RecurrentStretch) throws -> RecurrentStretch {
    let parts = try inputs.split(sizes: [convolution.channels, heads], axis: 2)
    let tokens = try self.tokens(convolution(parts[0], tail: history).output, steps: parts[1], valid: nil)
    let final = try gatedScan(
      query: tokens.query, key: tokens.key, value: tokens.value, gate: tokens.gate, weight: tokens.step,
      state: stretch.increment, scale: 1
    ).state
    return RecurrentStretch(decay: try stretch.decay + tokens.gate.sum(axis: 1), increment: final)
  }

  func factor(ofDecay decay: Tensor) throws -> Tensor { try decay.exp().reshaped(decay.shape + [1, 1]) }
}
