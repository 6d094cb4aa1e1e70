import FermataLayers
import FermataTensors

/// Attention as an RNN (Aaren; Feng et al. 2024): softmax attention whose query is learned, one a head, and depends on no input:
///
///     k_t = W_k x_t,  v_t = W_v x_t,  o_t = Σ_{i≤t} e^{s_i} v_i / Σ_{i≤t} e^{s_i}  with  s_i = q·k_i / √d,  y = W_o o
///
/// The paper carries the largest score m, the normaliser l = Σ e^{s_i - m} and the numerator Σ e^{s_i - m} v_i. What is needed of
/// them is L = m + log l and the average o, so those are the state: 4 · batch · (heads + width) bytes. Since q is fixed, q·W_k
/// is one row a head, and keys are never made. Cost per token: 4 · width² + 2 · width · heads.
/// Cut anywhere; merges: two averages weighted with their normalisers.
/// Bad at: recall, for what a token finds does not depend on what it asks; and old tokens are outweighed, never forgotten.
public struct Aaren: RegisteredMixer, MergingMixer {
  public struct Options: Codable, Sendable {
    enum CodingKeys: String, CodingKey, CaseIterable { case heads = "num_heads" }
    public var heads: Int
  }

  public static let name = "aaren"
  public static let card = MixerCard(
    family: .attention, summary: "attention with a learned query, as a running average", state: "4 · (heads + width)",
    cost: "3 · width + 20 · heads",
    weakness: "recall: what a token finds does not depend on what it asks, and nothing is forgotten",
    source: "Feng et al. 2024")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [#"{"num_heads": 2}"#]

  /// q (heads, head width).
  public var query: Tensor
  public var key: Linear
  public var value: Linear
  public var output: Linear
  public let heads: Int
  public let headWidth: Int

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    heads = options.heads
    guard heads > 0, width % heads == 0 else {
      throw ConfigurationError("mixer '\(Self.name)'", "num_heads (\(heads)) must divide the width (\(width))")
    }
    headWidth = width / heads
    query = try random.normal([heads, headWidth])
    key = try Linear(width, width, random: &random)
    value = try Linear(width, width, random: &random)
    output = try Linear(width, width, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    // Together they make scores, which are exponents: rounded to bf16 they would be off by per cents.
    try visitor.parameter("query", &query, role: .coefficient)
    try visitor.module("k_proj", &key, role: .coefficient)
    try visitor.module("v_proj", &value)
    try visitor.module("o_proj", &output)
  }

  public var laws: Laws {
    Laws(cut: .causal, merge: .associative(cost: "a normaliser and an average per head"))
  }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 4 * batch * heads * (headWidth + 1) }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: [
      "log_normalizer": try Tensor.full([batch, heads], -.infinity),
      "average": try Tensor.zeros([batch, heads, headWidth]),
    ])
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    var next = state
    next.position = try state.position(after: piece.length)
    let result = try averages(piece, after: state)
    next["log_normalizer"] = result.normalizer
    next["average"] = result.average
    let y = try output(result.averages.reshaped(piece.values.shape))
    state = next
    return y
  }

  private func averages(_ piece: Piece, after state: MixerState) throws -> (
    averages: Tensor, normalizer: Tensor, average: Tensor
  ) {
    let piece = try piece.sequence(for: Self.name)
    let rows = try matmul(query.expanded(at: 1), key.weight.reshaped([heads, headWidth, -1]))
    let scores = try linear(
      piece.values.cast(to: .float32), weight: rows.reshaped([heads, -1]) / Float(headWidth).squareRoot())
    let values = try value(piece.values).reshaped([piece.batch, piece.length, heads, headWidth])
    return try runningAverage(
      scores: scores, values: values, normalizer: state.tensor("log_normalizer"), average: state.tensor("average"),
      resets: piece.layout.resets, valid: piece.layout.valid)
  }

  // MARK: Merge law

  /// The normaliser and average of the stretch alone.
  public func summarise(_ piece: Piece) throws -> Summary {
    try require(
      piece.layout.resets == nil, "summarise", expected: "a stretch without document starts", got: "resets",
      advice: "summarise each document by itself")
    let result = try averages(piece, after: initialState(batch: piece.batch))
    return Summary(length: piece.length, tensors: ["log_normalizer": result.normalizer, "average": result.average])
  }

  public func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    let (normalizer, average) = try combined(
      left.tensor("log_normalizer"), left.tensor("average"), right.tensor("log_normalizer"), right.tensor("average"))
    return Summary(
      length: left.length + right.length, tensors: ["log_normalizer": normalizer, "average": average])
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    let position = try state.position(after: summary.length)
    let (normalizer, average) = try combined(
      state.tensor("log_normalizer"), state.tensor("average"), summary.tensor("log_normalizer"),
      summary.tensor("average"))
    state["log_normalizer"] = normalizer
    state["average"] = average
    state.position = position
  }

  /// log(e^a + e^b) and the average by those weights; two empty stretches make an empty one.
  private func combined(_ a: Tensor, _ first: Tensor, _ b: Tensor, _ second: Tensor) throws -> (Tensor, Tensor) {
    let larger = try Tensor.selecting(a .< b, b, a).detached
    let scale = try Tensor.selecting(larger .== Tensor.full([], -.infinity), Tensor(Float(0)), larger)
    let (weight, other) = (try (a - scale).exp(), try (b - scale).exp())
    let sum = try weight + other
    // Two empty stretches: log 0 would have a gradient of infinity.
    let isEmpty = try sum .== Tensor(0)
    let divisor = try Tensor.selecting(isEmpty, Tensor(1), sum)
    let average = try (weight / divisor).expanded(at: 2) * first + (other / divisor).expanded(at: 2) * second
    return (try Tensor.selecting(isEmpty, Tensor(-.infinity), divisor.log() + scale), average)
  }
}
