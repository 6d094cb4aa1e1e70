import CFermataKernels
import FermataLayers
import FermataTensors

/// Long short-term memory (Hochreiter & Schmidhuber 1997; forget gates by Gers et al. 2000):
///
///     (i, f, g, o) = W x_t + b + R h_{t-1},  c_t = σ(f) c_{t-1} + σ(i) tanh(g),  h_t = σ(o) tanh(c_t),  y = W_o h
///
/// With `num_heads` R is block-diagonal (Pöppel et al. 2024). State: h and c, 8 · batch · width bytes. Cost per token: 2 ·
/// width² · (5 + 4 / heads). Cut anywhere; no merge law: a step is not linear in the state, so a stretch has no summary smaller
/// than itself.
/// Bad at: speed (one token after another) and recall beyond what `width` numbers hold; good at counting and parity.
public struct LSTM: RegisteredMixer {
  public struct Options: Codable, Sendable {
    enum CodingKeys: String, CodingKey, CaseIterable {
      case heads = "num_heads"
      case forgetBias = "forget_bias"
    }
    /// Blocks of the recurrent matrix; 1 by default.
    public var heads: Int?
    /// Initial bias of the forget gate; 1 by default (Jozefowicz et al. 2015).
    public var forgetBias: Float?
  }

  public static let name = "lstm"
  public static let card = MixerCard(
    family: .recurrence, summary: "gated recurrence, one token after another", state: "8 · width",
    cost: "8 · width² / heads", weakness: "speed (one token after another), and recall beyond what its width holds",
    source: "Hochreiter & Schmidhuber 1997; Gers et al. 2000")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = ["{}", #"{"num_heads": 2}"#]

  public var recurrence: RecurrentLayer
  public var output: Linear

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    recurrence = try RecurrentLayer(
      name: Self.name, .lstm, width: width, heads: options.heads ?? 1, random: &random)
    let forget = options.forgetBias ?? 1
    recurrence.bias = try Tensor((0..<4 * width).map { $0 / width == 1 ? forget : 0 })
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
  /// Gates i, f, g, o; states hidden and cell.
  public static let lstm = RecurrentCell(
    gates: 4, states: ["hidden", "cell"], empty: [0, 0], readsSum: true, kernel: FM_LSTM
  ) { x, sums, states in
    let u = try zip(x, sums).map { try $0 + $1 }
    let cell = try u[1].sigmoid() * states[1] + u[0].sigmoid() * u[2].tanh()
    return [try u[3].sigmoid() * cell.tanh(), cell]
  }
}
