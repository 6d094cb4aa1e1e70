import FermataLayers
import FermataMixers
import FermataTensors

/// The delta rule (Widrow & Hoff 1960; Schlag et al. 2021), token by token:
///
///     S_t = S_{t-1} (I - β k kᵀ) + β v kᵀ,   o_t = S_t q
///
/// kept transposed here (keyWidth, valueWidth). Its summary is dear: a whole keyWidth × keyWidth transition.
struct DeltaRule: MergingMixer {
  var projection: Linear
  let keyWidth: Int
  let width: Int

  init(width: Int, keyWidth: Int, random: inout RandomSource) throws {
    (self.width, self.keyWidth) = (width, keyWidth)
    projection = try Linear(width, 2 * keyWidth + width + 1, random: &random)
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws { try visitor.module("in_proj", &projection) }

  var laws: Laws { Laws(cut: .causal, merge: .associative(cost: "a \(keyWidth) × \(keyWidth) matrix and a state")) }
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 4 * batch * keyWidth * width }
  func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: ["state": try Tensor.zeros([batch, keyWidth, width])])
  }

  /// Per token (batch, 1, keyWidth) query and key of length one, (batch, 1, width) value and (batch, 1, 1) rate, f32.
  private struct Tokens {
    var query: Tensor
    var key: Tensor
    var value: Tensor
    var rate: Tensor
    /// 1 - reset (batch, length, 1), where there are document starts.
    var keep: Tensor?

    func at(_ index: Int) throws -> (query: Tensor, key: Tensor, value: Tensor, rate: Tensor) {
      func row(_ x: Tensor) throws -> Tensor { try x.slice(index..<index + 1, axis: 1) }
      return (try row(query), try row(key), try row(value), try row(rate))
    }
  }

  private func tokens(_ piece: Piece) throws -> Tokens {
    let parts = try projection(piece.values).cast(to: .float32).split(sizes: [keyWidth, keyWidth, width, 1], axis: 2)
    func unit(_ x: Tensor) throws -> Tensor {
      try x * (x.squared().sum(axis: 2, keepingAxis: true) + 1e-6).reciprocalSquareRoot()
    }
    var rate = try parts[3].sigmoid()
    if let valid = piece.layout.valid { rate = try rate * valid.cast(to: .float32).expanded(at: 2) }
    return Tokens(
      query: try unit(parts[0]), key: try unit(parts[1]), value: parts[2], rate: rate,
      keep: try piece.layout.resets.map { try 1 - $0.cast(to: .float32).expanded(at: 2) })
  }

  /// One step of any matrix (batch, keyWidth, …): M - β kᵀ (k M).
  private func forgetting(_ matrix: Tensor, _ key: Tensor, _ rate: Tensor) throws -> Tensor {
    try matrix - matmul(key.transposed(1, 2), matmul(key, matrix) * rate)
  }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    var memory = try state.tensor("state")
    try require(
      piece.layout.parents == nil && memory.shape == [piece.batch, keyWidth, width] && memory.dtype == .float32,
      "delta rule", expected: "a sequence and a state of F32 \([piece.batch, keyWidth, width])", got: "\(memory)")
    let tokens = try tokens(piece)
    var outputs: [Tensor] = []
    for index in 0..<piece.length {
      let token = try tokens.at(index)
      if let keep = tokens.keep { memory = try memory * keep.slice(index..<index + 1, axis: 1) }
      memory =
        try forgetting(memory, token.key, token.rate) + matmul(token.key.transposed(1, 2), token.value * token.rate)
      outputs.append(try matmul(token.query, memory))
    }
    let result = try Tensor.concatenated(outputs, axis: 1).cast(to: piece.values.dtype)
    state["state"] = memory
    state.position += piece.length
    return result
  }

  func summarise(_ piece: Piece) throws -> Summary {
    try require(piece.layout.resets == nil, "summarise", expected: "one document", got: "document starts")
    let tokens = try tokens(piece)
    let identity = try Tensor(
      (0..<keyWidth * keyWidth).map { $0 % (keyWidth + 1) == 0 ? Float(1) : 0 }, shape: [keyWidth, keyWidth])
    var transition = try identity.broadcast(to: [piece.batch, keyWidth, keyWidth])
    var increment = try Tensor.zeros([piece.batch, keyWidth, width])
    for index in 0..<piece.length {
      let token = try tokens.at(index)
      transition = try forgetting(transition, token.key, token.rate)
      increment =
        try forgetting(increment, token.key, token.rate) + matmul(token.key.transposed(1, 2), token.value * token.rate)
    }
    return Summary(length: piece.length, tensors: ["transition": transition, "increment": increment])
  }

  /// (T₂ T₁, T₂ U₁ + U₂)
  func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    let transition = try right.tensor("transition")
    return Summary(
      length: left.length + right.length,
      tensors: [
        "transition": try matmul(transition, left.tensor("transition")),
        "increment": try matmul(transition, left.tensor("increment")) + right.tensor("increment"),
      ])
  }

  func advance(_ state: inout MixerState, by summary: Summary) throws {
    state["state"] = try matmul(summary.tensor("transition"), state.tensor("state")) + summary.tensor("increment")
    state.position += summary.length
  }
}
