import FermataLayers
import FermataTensors

/// Mamba (Gu & Dao 2023): a diagonal state per channel whose step, input and read-out depend on the token.
///
///     (x, z) = W_in u,   x = silu(conv(x)),   (δ, B, C) = W_x x,   Δ = softplus(W_Δ δ + b_Δ)
///     h_t = e^{Δ_t A} h_{t-1} + Δ_t x_t B_t,   y = C_t · h_t + D x_t,   out = W_out (y · silu(z)),   A = −e^{A_log}
///
/// With E = expand · width channels and N = state_size: x, z, Δ, y (batch, length, E), B, C (batch, length, N), A (E, N).
///
/// State: h (batch, N, E) and the convolution's last K − 1 inputs (batch, K − 1, E), f32: 4 · batch · E · (N + K − 1) bytes,
/// whatever the length. Cost per token: 8 · E · N beside the projections. Merge: the sum of Δ, a state, and a halo of K − 1 inputs.
/// Bad at: copying long strings exactly (the state is of one size), and counting: decays lie between 0 and 1, so it finds no parity.
public struct Mamba: RegisteredMixer, ConvolvedRecurrence {
  public struct Options: Codable, Sendable {
    /// N, states per channel; 16 by default.
    public var stateSize: Int?
    /// K, the width of the convolution; 4 by default.
    public var convolutionWidth: Int?
    /// Channels over width; 2 by default.
    public var expand: Int?
    /// The rank of Δ's projection; ⌈width / 16⌉ by default.
    public var stepRank: Int?
    /// Whether in_proj and out_proj have biases; false by default.
    public var usesBias: Bool?
    /// Whether the convolution has one; true by default.
    public var usesConvolutionBias: Bool?

    public init() {}

    enum CodingKeys: String, CodingKey, CaseIterable {
      case stateSize = "state_size"
      case convolutionWidth = "conv_kernel"
      case expand
      case stepRank = "time_step_rank"
      case usesBias = "use_bias"
      case usesConvolutionBias = "use_conv_bias"
    }
  }

  public static let name = "mamba"
  public static let card = MixerCard(
    family: .stateSpace, summary: "selective scan: a diagonal state whose step, input and read-out depend on the token",
    state: "4 · expand · width · (stateSize + kernel - 1)", cost: "8 · expand · width · stateSize",
    weakness: "copying long strings exactly, and counting: decays between 0 and 1 find no parity",
    source: "Gu & Dao 2023")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    "{}",
    #"{"state_size": 5, "conv_kernel": 2, "expand": 3, "time_step_rank": 4, "use_bias": true, "use_conv_bias": false}"#,
  ]

  /// width → (x, z)
  public var input: Linear
  public var convolution: ShortConvolution
  /// x → (δ, B, C)
  public var selection: Linear
  /// δ → Δ, before softplus
  public var step: Linear
  /// (E, N)
  public var logDecay: Tensor
  /// D: (E)
  public var skip: Tensor
  public var output: Linear
  public let channels: Int
  public let stateSize: Int
  public let stepRank: Int

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    let expand = options.expand ?? 2
    let kernel = options.convolutionWidth ?? 4
    let (states, rank) = (options.stateSize ?? 16, options.stepRank ?? (width + 15) / 16)
    for (key, value, most) in [
      ("state_size", states, 1024), ("conv_kernel", kernel, 64), ("expand", expand, 64),
      ("time_step_rank", rank, 65_536),
    ] where !(1...most).contains(value) {
      throw ConfigurationError("mixer '\(Self.name)'", "\(key) must be in 1...\(most), got \(value)")
    }
    (channels, stateSize, stepRank) = (expand * width, states, rank)
    let bias = options.usesBias ?? false
    input = try Linear(width, 2 * channels, bias: bias, random: &random)
    convolution = try ShortConvolution(
      channels: channels, width: kernel, bias: options.usesConvolutionBias ?? true, random: &random)
    selection = try Linear(channels, rank + 2 * states, random: &random)
    let bound = 1 / Float(rank).squareRoot()
    step = Linear(
      weight: try random.uniform([channels, rank], -bound, bound), bias: try initialStepBias(channels, random: &random))
    // A begins as −1, −2, …, −N in every channel (S4D-Real, Gu et al. 2022).
    logDecay = try Tensor.range(states, from: 1, .float32).log().broadcast(to: [channels, states]).contiguous()
    skip = try Tensor.ones([channels])
    output = try Linear(channels, width, bias: bias, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("in_proj", &input)
    try visitor.module("conv1d", &convolution)
    try visitor.module("x_proj", &selection)
    try visitor.module("dt_proj", &step)
    try visitor.parameter("A_log", &logDecay, role: .coefficient)
    try visitor.parameter("D", &skip)
    try visitor.module("out_proj", &output)
  }

  public var laws: Laws {
    Laws(
      cut: .causal,
      merge: .associative(cost: "a decay per channel, a state, and a halo of the convolution's first and last inputs"))
  }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    recurrentStateBytes(batch: batch, numbers: stateSize * channels)
  }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: [
      "state": try Tensor.zeros([batch, stateSize, channels]), "convolution": try convolution.initialTail(batch: batch),
    ])
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let piece = try piece.sequence(for: Self.name)
    let position = try state.position(after: piece.length)
    let parts = try input(piece.values).split(sizes: [channels, channels], axis: 2)
    let layout = piece.layout
    let (x, tail) = try convolution(
      parts[0], tail: state.tensor("convolution"), resets: layout.resets, valid: layout.valid)
    var inputs = try scanInputs(x)
    inputs.gate = parts[1]
    let (mixed, final) = try selectiveScan(
      inputs, state: state.tensor("state"), resets: layout.resets, valid: layout.valid)
    let y = try output(mixed)
    state["convolution"] = tail
    state["state"] = final
    state.position = position
    return y
  }

  /// A, at most 0, as the scan wants it: (N, E).
  private func decay() throws -> Tensor { try -logDecay.cast(to: .float32).exp().transposed(0, 1) }

  private func scanInputs(_ x: Tensor) throws -> SelectiveScanInputs {
    guard let stepBias = step.bias else { throw TensorError(Self.name, expected: "dt_proj.bias", got: "none") }
    let parts = try selection(x).split(sizes: [stepRank, stateSize, stateSize], axis: 2)
    return SelectiveScanInputs(
      x: x, step: try linear(parts[0], weight: step.weight), stepBias: stepBias, a: try decay(), b: parts[1],
      c: parts[2], skip: skip)
  }

  // MARK: Merge law

  func stretchInputs(_ piece: Piece) throws -> Tensor {
    try input(piece.values).split(sizes: [channels, channels], axis: 2)[0]
  }

  func emptyStretch(batch: Int) throws -> RecurrentStretch {
    RecurrentStretch(
      decay: try Tensor.zeros([batch, channels]), increment: try Tensor.zeros([batch, stateSize, channels]))
  }

  /// The decay of a stretch is its sum of Δ: A does the rest.
  func appending(_ tokens: Tensor, after history: Tensor, to stretch: RecurrentStretch) throws -> RecurrentStretch {
    let inputs = try scanInputs(convolution(tokens, tail: history).output)
    let steps = try (inputs.step.cast(to: .float32) + inputs.stepBias).softplus().sum(axis: 1)
    return RecurrentStretch(
      decay: try stretch.decay + steps, increment: try selectiveScan(inputs, state: stretch.increment).state)
  }

  func factor(ofDecay decay: Tensor) throws -> Tensor { try (decay.expanded(at: 1) * self.decay()).exp() }
}
