import FermataLayers
import FermataTensors

/// Long short-term memory (Hochreiter & Schmidhuber 1997; forget gates by Gers et al. 2000):
///
///     (i, f, g, o) = W x_t + b + R h_{t-1},  c_t = σ(f) c_{t-1} + σ(i) tanh(g),  h_t = σ(o) tanh(c_t),  y = W_o h
///
/// State: h and c, 8 · batch · width bytes. Cost per token: 16 · width². Cut anywhere; no merge law: a step is not linear
/// in the state, so a stretch has no summary smaller than itself.
/// Bad at: speed (one token after another) and recall beyond what `width` numbers hold; good at counting and parity.
public struct LSTM: RegisteredMixer {
  public struct Options: Codable, Sendable {
    enum CodingKeys: String, CodingKey, CaseIterable { case forgetBias = "forget_bias" }
    /// Initial bias of the forget gate; 1 by default (Jozefowicz et al. 2015).
    public var forgetBias: Float?
  }

  public static let name = "lstm"
  public static let card = MixerCard(
    family: .recurrence, summary: "gated recurrence, one token after another", state: "8 · width",
    cost: "8 · width²", weakness: "speed (one token after another), and recall beyond what its width holds",
    source: "Hochreiter & Schmidhuber 1997; Gers et al. 2000")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = ["{}"]

  public var inputWeight: Tensor
  public var recurrentWeight: Tensor
  public var bias: Tensor
  public var output: Linear
  public let width: Int

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    self.width = width
    let bound = 1 / Float(width).squareRoot()
    inputWeight = try random.uniform([4 * width, width], -bound, bound)
    recurrentWeight = try random.uniform([4 * width, width], -bound, bound)
    let forget = options.forgetBias ?? 1
    bias = try Tensor((0..<4 * width).map { $0 / width == 1 ? forget : 0 })
    output = try Linear(width, width, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight_ih", &inputWeight)
    try visitor.parameter("weight_hh", &recurrentWeight)
    try visitor.parameter("bias", &bias)
    try visitor.module("o_proj", &output)
  }

  public var laws: Laws {
    Laws(cut: .causal, merge: .none(reason: "a step is not linear in the state, so a stretch has no summary"))
  }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 8 * batch * width }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: ["hidden": try Tensor.zeros([batch, width]), "cell": try Tensor.zeros([batch, width])])
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    try require(
      piece.layout.parents == nil, Self.name, expected: "a sequence", got: "a tree of drafts",
      advice: "use branches(_:state:)")
    let position = try state.position(after: piece.length)
    let projections = try linear(piece.values, weight: inputWeight, bias: bias)
    let (hidden, cell) = (try state.tensor("hidden"), try state.tensor("cell"))
    for tensor in [hidden, cell] {
      try require(
        tensor.shape == [piece.batch, width] && tensor.dtype == .float32, Self.name,
        expected: "a state of F32 [\(piece.batch), \(width)]", got: "\(tensor)",
        advice: "the state was made with another model or batch")
    }
    let result =
      piece.layout.valid == nil
      ? try lstmScan(
        projections: projections, recurrent: recurrentWeight, hidden: hidden, cell: cell, resets: piece.layout.resets)
      : try lstmReference(
        projections: projections, recurrent: recurrentWeight, hidden: hidden, cell: cell, resets: piece.layout.resets,
        valid: piece.layout.valid)
    let y = try output(result.output)
    state["hidden"] = result.hidden
    state["cell"] = result.cell
    state.position = position
    return y
  }
}
