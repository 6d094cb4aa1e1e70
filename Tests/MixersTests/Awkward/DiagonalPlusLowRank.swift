import FermataLayers
import FermataMixers
import FermataTensors

/// A real state space with A = diag(Λ) - p qᵀ, the form of S4 (Gu et al. 2022), made discrete by the bilinear rule:
///
///     Ā = (I - Δ/2 A)⁻¹ (I + Δ/2 A),   x_t = Ā x_{t-1} + B̄ u_t,   y_t = C x_t + D u_t
///
/// one input a channel, Ā shared by all. Its summary is a power of Ā and what the stretch adds.
struct DiagonalPlusLowRank: MergingMixer {
  /// log(-Λ), p, q (states); B and C (channels, states); D (channels).
  var logDecay: Tensor
  var left: Tensor
  var right: Tensor
  var input: Tensor
  var output: Tensor
  var skip: Tensor
  let states: Int
  let width: Int
  private let step: Float = 0.2

  init(width: Int, states: Int, random: inout RandomSource) throws {
    (self.width, self.states) = (width, states)
    logDecay = try random.uniform([states], -2, 1)
    left = try random.normal([states], deviation: 0.3)
    right = try random.normal([states], deviation: 0.3)
    input = try random.normal([width, states])
    output = try random.normal([width, states], deviation: 0.5)
    skip = try random.normal([width])
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("log_decay", &logDecay)
    try visitor.parameter("p", &left)
    try visitor.parameter("q", &right)
    try visitor.parameter("B", &input)
    try visitor.parameter("C", &output)
    try visitor.parameter("D", &skip)
  }

  var laws: Laws { Laws(cut: .causal, merge: .associative(cost: "a \(states) × \(states) power and a state")) }
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 4 * batch * width * states }
  func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: ["state": try Tensor.zeros([batch, width, states])])
  }

  /// Āᵀ (states, states) and B̄ (width, states). The inverse of a diagonal with one more rank: Sherman & Morrison (1950).
  private func discretised() throws -> (transition: Tensor, input: Tensor) {
    let half = step / 2
    let decay = try -logDecay.exp()
    let inverse = try 1 / (1 - decay * half)
    let column = try left * half
    let (p, q) = (try (inverse * column).expanded(at: 1), try (inverse * right).expanded(at: 0))
    let correction = try matmul(p, q) / (matmul(right.expanded(at: 0), p) + 1)
    let identity = try Tensor(
      (0..<states * states).map { $0 % (states + 1) == 0 ? Float(1) : 0 }, shape: [states, states])
    let resolvent = try identity * inverse - correction
    let explicit = try identity * (1 + decay * half) - matmul(column.expanded(at: 1), right.expanded(at: 0))
    return (
      try matmul(resolvent, explicit).transposed(0, 1), try matmul(input, resolvent.transposed(0, 1)) * step
    )
  }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    var memory = try state.tensor("state")
    try require(
      piece.layout.parents == nil && piece.values.shape[2] == width && memory.shape == [piece.batch, width, states]
        && memory.dtype == .float32, "state space", expected: "a sequence of width \(width) and its state",
      got: "\(memory)")
    let (transition, drive) = try discretised()
    let values = try piece.values.cast(to: .float32)
    let keep = try piece.layout.resets.map { try 1 - $0.cast(to: .float32) }
    var outputs: [Tensor] = []
    for index in 0..<piece.length {
      if let keep { memory = try memory * keep.slice(index..<index + 1, axis: 1).expanded(at: 2) }
      let next = try matmul(memory, transition) + values.select(index, axis: 1).expanded(at: 2) * drive
      if let valid = piece.layout.valid {
        memory = try Tensor.selecting(valid.slice(index..<index + 1, axis: 1).expanded(at: 2), next, memory)
      } else {
        memory = next
      }
      outputs.append(try (memory * output).sum(axis: 2).expanded(at: 1))
    }
    let result = try (Tensor.concatenated(outputs, axis: 1) + values * skip).cast(to: piece.values.dtype)
    state["state"] = memory
    state.position += piece.length
    return result
  }

  func summarise(_ piece: Piece) throws -> Summary {
    try require(
      piece.layout.isPlain || piece.layout.positions != nil && piece.layout.resets == nil && piece.layout.valid == nil,
      "summarise", expected: "one document without padding", got: "another layout")
    var state = try initialState(batch: piece.batch)
    _ = try self(piece, state: &state)
    let (transition, _) = try discretised()
    var power = transition
    for _ in 1..<max(piece.length, 1) { power = try matmul(power, transition) }
    return Summary(length: piece.length, tensors: ["power": power, "increment": try state.tensor("state")])
  }

  func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    let power = try right.tensor("power")
    return Summary(
      length: left.length + right.length,
      tensors: [
        "power": try matmul(left.tensor("power"), power),
        "increment": try matmul(left.tensor("increment"), power) + right.tensor("increment"),
      ])
  }

  func advance(_ state: inout MixerState, by summary: Summary) throws {
    state["state"] = try matmul(state.tensor("state"), summary.tensor("power")) + summary.tensor("increment")
    state.position += summary.length
  }
}
