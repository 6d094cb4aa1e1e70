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
public struct GatedLinearAttention: RegisteredMixer, MergingMixer {
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

  /// Queries, keys, values and the output gate in one product; with scalar gates Δ too.
  public var input: Linear
  /// GLA's low-rank gate: width → 16 → heads · keyWidth.
  public var gateDown: Linear?
  public var gateUp: Linear?
  /// Mamba-2's A, as its logarithm, and Δ's bias, per head.
  public var logDecay: Tensor?
  public var stepBias: Tensor?
  public var norm: RMSNorm
  public var output: Linear
  public let heads: Int
  public let keyWidth: Int
  public let valueWidth: Int
  public let gate: Gate

  /// Rank of GLA's gate and the divisor of its logarithm, both as the paper sets them.
  private static let gateRank = 16
  private static let gateDivisor: Float = 16

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    heads = options.heads
    gate = options.gate ?? .vector
    guard heads > 0, width % heads == 0 else {
      throw ConfigurationError("mixer '\(Self.name)'", "num_heads (\(heads)) must divide the width (\(width))")
    }
    valueWidth = width / heads
    keyWidth = options.keyWidth ?? max(1, valueWidth / 2)
    guard keyWidth > 0, keyWidth <= 1024 else {
      throw ConfigurationError("mixer '\(Self.name)'", "key_dim must be in 1...1024, got \(keyWidth)")
    }
    let keys = heads * keyWidth
    input = try Linear(width, 2 * keys + 2 * width + (gate == .scalar ? heads : 0), random: &random)
    norm = try RMSNorm(valueWidth)
    output = try Linear(width, width, random: &random)
    switch gate {
    case .vector:
      gateDown = try Linear(width, Self.gateRank, random: &random)
      var up = try Linear(Self.gateRank, keys, bias: true, random: &random)
      // Decays start spread between forgetting in tens and in thousands of tokens.
      up.bias = try random.uniform([keys], 0, 6)
      gateUp = up
    case .scalar:
      logDecay = try random.uniform([heads], 1, 16).log()
      // softplus(bias) is spread between 0.001 and 0.1, as Mamba-2 starts.
      let steps = try (random.uniform([heads]) * Float(4.605_170_2) - Float(6.907_755_3)).exp()
      stepBias = try (steps.exp() - 1).log()
    }
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("in_proj", &input)
    if var layer = gateDown {
      try visitor.module("gate_down_proj", &layer)
      gateDown = layer
    }
    if var layer = gateUp {
      try visitor.module("gate_up_proj", &layer)
      gateUp = layer
    }
    try visitor.parameter("A_log", &logDecay)
    try visitor.parameter("dt_bias", &stepBias)
    try visitor.module("norm", &norm)
    try visitor.module("o_proj", &output)
  }

  public var laws: Laws { Laws(cut: .causal, merge: .associative(cost: "a decay and a matrix per head")) }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 4 * batch * heads * keyWidth * valueWidth }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: ["state": try Tensor.zeros([batch, heads, keyWidth, valueWidth])])
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let position = try state.position(after: piece.length)
    let parts = try projections(piece)
    let (mixed, final) = try gatedScan(
      query: parts.query, key: parts.key, value: parts.value, gate: parts.gate, state: state.tensor("state"),
      resets: piece.layout.resets, scale: 1 / Float(keyWidth).squareRoot())
    let y = try output((norm(mixed) * parts.outputGate.silu()).reshaped(piece.values.shape))
    state["state"] = final
    state.position = position
    return y
  }

  private struct Projections {
    var query: Tensor
    var key: Tensor
    var value: Tensor
    var gate: Tensor
    var outputGate: Tensor
  }

  private func projections(_ piece: Piece) throws -> Projections {
    try require(
      piece.layout.parents == nil, Self.name, expected: "a sequence", got: "a tree of drafts",
      advice: "use branches(_:state:)")
    let x = piece.values
    let (batch, length, width) = (piece.batch, piece.length, heads * valueWidth)
    let keys = heads * keyWidth
    let parts = try input(x).split(sizes: [keys, keys, width, width] + (gate == .scalar ? [heads] : []), axis: 2)
    var result = Projections(
      query: try parts[0].reshaped([batch, length, heads, keyWidth]),
      key: try parts[1].reshaped([batch, length, heads, keyWidth]),
      value: try parts[2].reshaped([batch, length, heads, valueWidth]), gate: x,
      outputGate: try parts[3].reshaped([batch, length, heads, valueWidth]))
    switch gate {
    case .vector:
      guard let gateDown, let gateUp else { throw TensorError(Self.name, expected: "a gate's weights", got: "none") }
      let logits = try gateUp(gateDown(x)).cast(to: .float32)
      result.gate = try (logits.logSigmoid() / Self.gateDivisor).reshaped([batch, length, heads, keyWidth])
    case .scalar:
      guard let logDecay, let stepBias else { throw TensorError(Self.name, expected: "A_log and dt_bias", got: "none") }
      let step = try (parts[4].cast(to: .float32) + stepBias).softplus()
      result.gate = try -(step * logDecay.exp())
      result.value = try result.value * step.cast(to: x.dtype).expanded(at: 3)
    }
    return try hidingPadding(result, piece)
  }

  /// Padding neither decays the state nor adds to it.
  private func hidingPadding(_ parts: Projections, _ piece: Piece) throws -> Projections {
    guard let valid = piece.layout.valid else { return parts }
    var result = parts
    let shown = try valid.cast(to: .float32)
    let shape = [piece.batch, piece.length, 1, 1]
    result.gate = try parts.gate * shown.reshaped(parts.gate.rank == 4 ? shape : Array(shape.dropLast()))
    result.key = try parts.key * shown.cast(to: parts.key.dtype).reshaped(shape)
    return result
  }

  // MARK: Merge law

  /// The decay of the whole stretch (batch, heads, keyWidth or 1), as a logarithm, and what it leaves of an empty state.
  public func summarise(_ piece: Piece) throws -> Summary {
    try require(
      piece.layout.resets == nil, "summarise", expected: "a stretch without document starts", got: "resets",
      advice: "summarise each document by itself")
    let parts = try projections(piece)
    let zero = try Tensor.zeros([piece.batch, heads, keyWidth, valueWidth])
    let (_, increment) = try gatedScan(
      query: parts.query, key: parts.key, value: parts.value, gate: parts.gate, state: zero, scale: 1)
    let total = try parts.gate.sum(axis: 1)
    return Summary(
      length: piece.length,
      tensors: ["decay": total.rank == 3 ? total : try total.expanded(at: 2), "increment": increment])
  }

  /// (g₁ + g₂, diag(e^{g₂}) U₁ + U₂)
  public func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    let decay = try right.tensor("decay")
    let carried = try left.tensor("increment") * decay.exp().expanded(at: 3)
    return Summary(
      length: left.length + right.length,
      tensors: [
        "decay": try left.tensor("decay") + decay, "increment": try carried + right.tensor("increment"),
      ])
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    let position = try state.position(after: summary.length)
    let kept = try state.tensor("state") * summary.tensor("decay").exp().expanded(at: 3)
    state["state"] = try kept + summary.tensor("increment")
    state.position = position
  }
}
