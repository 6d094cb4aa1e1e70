import Fermata

/// A mixer of our own: an exponential moving average of projected inputs, with a learnt decay a for every feature.
///
///     h_t = a h_{t-1} + (1 - a) W x_t
///
/// A stretch of tokens turns the state h into D h + U, so (D, U) is its summary; the one before another joins it as
/// (D₁ D₂, D₂ U₁ + U₂). That is the merge law, and the forward pass below uses nothing else.
struct MovingAverage: RegisteredMixer, MergingMixer {
  struct Options: Codable, Sendable {
    var decay: Float?
    enum CodingKeys: String, CodingKey, CaseIterable { case decay }
  }

  static let name = "moving_average"
  static let card = MixerCard(
    family: .recurrence, summary: "an exponential moving average of projected inputs", state: "4 · width",
    cost: "3 · width", weakness: "anything that does not fade smoothly", source: "textbook")
  static let examples = ["{}", #"{"decay": 0.5}"#]
  static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)

  let width: Int
  var input: Linear
  /// log(a / (1 - a)), so that no training step can take a out of 0...1.
  var decayLogit: Tensor

  init(width: Int, options: Options, random: inout RandomSource) throws {
    let decay = options.decay ?? 0.9
    guard decay > 0, decay < 1 else {
      throw ConfigurationError("mixer '\(Self.name)'", "decay must lie between 0 and 1, got \(decay)")
    }
    self.width = width
    input = try Linear(width, width, random: &random)
    let a = try Tensor.full([width], Double(decay))
    decayLogit = try (a / (1 - a)).log()
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("in_proj", &input)
    try visitor.parameter("decay_logit", &decayLogit)
  }

  var laws: Laws { Laws(cut: .causal, merge: .associative(cost: "a decay and an increment per feature")) }

  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 4 * batch * width }

  func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: ["average": try Tensor.zeros([batch, width])])
  }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    if piece.length == 0 { return piece.values }
    let (decay, increment) = try prefixes(piece)
    let averages = try decay * state.tensor("average").expanded(at: 1) + increment
    state["average"] = try averages.select(piece.length - 1, axis: 1)
    state.position += piece.length
    return try averages.cast(to: piece.values.dtype)
  }

  /// D and U of every prefix of the piece, (batch, length, width) each. Neighbours join, then pairs, then fours:
  /// log₂(length) passes.
  private func prefixes(_ piece: Piece) throws -> (decay: Tensor, increment: Tensor) {
    guard piece.layout.parents == nil else {
      throw ConfigurationError("mixer '\(Self.name)'", "got a tree of drafts; use branches(_:state:)")
    }
    let (batch, length) = (piece.batch, piece.length)
    let a = try decayLogit.sigmoid()
    var decay = try a.broadcast(to: [batch, length, width])
    var increment = try input(piece.values).cast(to: .float32) * (1 - a)
    if let resets = piece.layout.resets {  // a document's first token forgets what came before
      decay = try decay * (1 - resets.cast(to: .float32).expanded(at: 2))
    }
    if let valid = piece.layout.valid {  // padding changes nothing: D = 1, U = 0
      let shown = try valid.expanded(at: 2)
      decay = try Tensor.selecting(shown, decay, Tensor.ones([]))
      increment = try Tensor.selecting(shown, increment, Tensor.zeros([]))
    }
    var span = 1
    while span < length {
      let (d, u) = (try decay.slice(span..<length, axis: 1), try increment.slice(span..<length, axis: 1))
      let (dBefore, uBefore) = (
        try decay.slice(0..<length - span, axis: 1), try increment.slice(0..<length - span, axis: 1)
      )
      decay = try Tensor.concatenated([decay.slice(0..<span, axis: 1), dBefore * d], axis: 1)
      increment = try Tensor.concatenated([increment.slice(0..<span, axis: 1), d * uBefore + u], axis: 1)
      span *= 2
    }
    return (decay, increment)
  }

  // MARK: Merge law

  func summarise(_ piece: Piece) throws -> Summary {
    let (decay, increment) = try prefixes(piece)
    return Summary(
      length: piece.length,
      tensors: [
        "decay": try decay.select(piece.length - 1, axis: 1),
        "increment": try increment.select(piece.length - 1, axis: 1),
      ])
  }

  func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    let decay = try right.tensor("decay")
    return Summary(
      length: left.length + right.length,
      tensors: [
        "decay": try left.tensor("decay") * decay,
        "increment": try decay * left.tensor("increment") + right.tensor("increment"),
      ])
  }

  func advance(_ state: inout MixerState, by summary: Summary) throws {
    state["average"] = try state.tensor("average") * summary.tensor("decay") + summary.tensor("increment")
    state.position += summary.length
  }
}
