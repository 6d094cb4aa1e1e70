import CFermataKernels
import FermataLayers
import FermataTensors

/// Gated recurrent unit (Cho et al. 2014), with the reset gate behind the recurrent product as in cuDNN and PyTorch, so that one
/// product serves all gates:
///
///     r = σ(W_r x_t + b_r + R_r h_{t-1}),  z = σ(W_z x_t + b_z + R_z h_{t-1}),
///     n = tanh(W_n x_t + b_n + r ⊙ (R_n h_{t-1} + c)),  h_t = (1 - z) ⊙ n + z ⊙ h_{t-1},  y = W_o h
///
/// With `num_heads` R is block-diagonal (Pöppel et al. 2024). State: h, 4 · batch · width bytes. Cost per token: 2 · width² ·
/// (4 + 3 / heads). Cut anywhere; no merge law: a step is not linear in the state.
/// Bad at: speed (one token after another), recall, and unbounded counting, which an LSTM's cell can do.
public struct GRU: RegisteredMixer {
  public struct Options: Codable, Sendable {
    enum CodingKeys: String, CodingKey, CaseIterable { case heads = "num_heads" }
    /// Blocks of the recurrent matrix; 1 by default.
    public var heads: Int?
  }

  public static let name = "gru"
  public static let card = MixerCard(
    family: .recurrence, summary: "gated recurrence with one state and three gates", state: "4 · width",
    cost: "6 · width² / heads", weakness: "speed (one token after another), recall, and counting without bound",
    source: "Cho et al. 2014")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = ["{}"]

  public var recurrence: RecurrentLayer
  public var output: Linear

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    recurrence = try RecurrentLayer(name: Self.name, .gru, width: width, heads: options.heads ?? 1, random: &random)
    output = try Linear(width, width, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try recurrence.visitParameters(&visitor)
    try visitor.module("o_proj", &output)
  }

  public var laws: Laws { RecurrentLayer.laws }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { recurrence.stateBytes(batch: batch) }

  public func initialState(batch: Int) throws -> MixerState { try recurrence.initialState(batch: batch) }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let (hidden, next) = try recurrence(piece, state: state)
    let y = try output(hidden)
    state = next
    return y
  }
}

extension RecurrentCell {
  /// Gates r, z, n; state hidden.
  public static let gru = RecurrentCell(
    gates: 3, states: ["hidden"], empty: [0], readsSum: false, kernel: FM_GRU
  ) { x, sums, states in
    let (reset, update) = (try (x[0] + sums[0]).sigmoid(), try (x[1] + sums[1]).sigmoid())
    let candidate = try (x[2] + reset * sums[2]).tanh()
    return [try (1 - update) * candidate + update * states[0]]
  }
}
