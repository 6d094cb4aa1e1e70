import CFermataKernels
import FermataLayers
import FermataTensors

/// sLSTM of xLSTM (Beck et al. 2024): an LSTM with an exponential input gate and a normaliser, in block-diagonal heads.
///
///     (i, f, z, o) = W x_t + b + R h_{t-1},
///     C_t = σ(f) C_{t-1} + e^i tanh(z),  N_t = σ(f) N_{t-1} + e^i,  h_t = σ(o) C_t / N_t,  y = W_o GroupNorm(h)
///
/// C and N grow without bound, so the paper carries c = C e^{-m} and n = N e^{-m} beside a stabiliser
/// m_t = max(log σ(f) + m_{t-1}, i). Only C / N and N matter, so the states here are the average C / N, which stays within
/// -1...1, and log N = m + log n; the same m keeps the step itself from overflowing. The group norm is over each head.
/// State: h, average and log N, 12 · batch · width bytes. Cost per token: 2 · width² · (5 + 4 / heads). Cut anywhere; no merge
/// law: a step is not linear in the state.
/// Bad at: speed (one token after another) and recall; good at tracking a state, and at revising what it stored.
public struct SLSTM: RegisteredMixer {
  public struct Options: Codable, Sendable {
    enum CodingKeys: String, CodingKey, CaseIterable { case heads = "num_heads" }
    /// Blocks of the recurrent matrix and groups of the norm; 1 by default.
    public var heads: Int?
  }

  public static let name = "slstm"
  public static let card = MixerCard(
    family: .recurrence, summary: "gated recurrence with exponential gates and a normaliser", state: "12 · width",
    cost: "8 · width² / heads", weakness: "speed (one token after another), and recall beyond what its width holds",
    source: "Beck et al. 2024")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = ["{}", #"{"num_heads": 2}"#]

  public var recurrence: RecurrentLayer
  /// The group norm's weight (width).
  public var normWeight: Tensor
  public var output: Linear
  public var width: Int { recurrence.width }

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    let heads = options.heads ?? 1
    recurrence = try RecurrentLayer(name: Self.name, .slstm, width: width, heads: heads, random: &random)
    guard width / heads > 1 else {
      throw ConfigurationError(
        "mixer '\(Self.name)'", "num_heads (\(heads)) must leave at least 2 of the \(width) units a head for the norm")
    }
    // Forget gates start spread from 3 to 6 in each head, as the authors' code can do.
    let headWidth = width / heads
    recurrence.bias = try Tensor(
      (0..<4 * width).map { $0 / width == 1 ? 3 + 3 * Float($0 % headWidth) / Float(headWidth - 1) : 0 })
    normWeight = try Tensor.ones([width])
    output = try Linear(width, width, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try recurrence.visitParameters(&visitor)
    try visitor.parameter("norm.weight", &normWeight)
    try visitor.module("o_proj", &output)
  }

  public var laws: Laws { RecurrentLayer.laws }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { recurrence.stateBytes(batch: batch) }

  public func initialState(batch: Int) throws -> MixerState { try recurrence.initialState(batch: batch) }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let (hidden, next) = try recurrence(piece, state: state)
    let headWidth = width / recurrence.heads
    let plain = LayerNorm(weight: try Tensor.ones([headWidth]), bias: try Tensor.zeros([headWidth]))
    let normed = try plain(hidden.reshaped([piece.batch, piece.length, recurrence.heads, headWidth]))
    let y = try output(normed.reshaped(hidden.shape) * normWeight.cast(to: hidden.dtype))
    state = next
    return y
  }
}

extension RecurrentCell {
  /// Gates i, f, z, o; states hidden, average C / N, and log N. The step is the paper's, from c = average, n = 1, m = log N.
  public static let slstm = RecurrentCell(
    gates: 4, states: ["hidden", "average", "log_normalizer"], empty: [0, 0, -.infinity], readsSum: true,
    kernel: FM_SLSTM
  ) { x, sums, states in
    let u = try zip(x, sums).map { try $0 + $1 }
    let carried = try u[1].logSigmoid() + states[2]
    let stabiliser = try Tensor.selecting(carried .< u[0], u[0], carried)
    let (input, forget) = (try (u[0] - stabiliser).exp(), try (carried - stabiliser).exp())
    let (cell, normaliser) = (try forget * states[1] + input * u[2].tanh(), try forget + input)
    let average = try cell / normaliser
    return [try u[3].sigmoid() * average, average, try stabiliser + normaliser.log()]
  }
}
