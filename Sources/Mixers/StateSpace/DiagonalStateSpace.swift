import FermataTensors

/// A mixer whose whole state is the modes of a diagonal state space, under the name "state" (batch, 2, modes, channels) f32.
///
/// A stretch multiplies the state by a power of ā, which depends on the number of its tokens alone, and adds what the stretch
/// leaves of an empty state. After a document's start nothing of the state remains: the power is zero (the operator of Lu et
/// al. 2023).
protocol DiagonalStateSpace: MergingMixer {
  /// ā (2, modes, channels), real plane and imaginary.
  func decay() throws -> Tensor
}

extension DiagonalStateSpace {
  public var laws: Laws {
    Laws(cut: .causal, merge: .associative(cost: "a power of the decay and an increment, both of the state's size"))
  }

  public func summarise(_ piece: Piece) throws -> Summary {
    var state = try initialState(batch: piece.batch)
    _ = try self(piece, state: &state)
    let power = try complexPower(decay(), layout: piece.layout)
    return Summary(length: piece.length, tensors: ["power": power, "increment": try state.tensor("state")])
  }

  /// (ā^{t₁} ā^{t₂}, ā^{t₂} u₁ + u₂)
  public func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    let power = try right.tensor("power")
    return Summary(
      length: left.length + right.length,
      tensors: [
        "power": try complexProduct(power, left.tensor("power")),
        "increment": try complexProduct(power, left.tensor("increment")) + right.tensor("increment"),
      ])
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    let position = try state.position(after: summary.length)
    state["state"] =
      try complexProduct(summary.tensor("power"), state.tensor("state")) + summary.tensor("increment")
    state.position = position
  }
}

/// ā^t for the tokens t of each row that are valid, zero where a document starts: (batch, 2, modes, channels), by squaring.
func complexPower(_ decay: Tensor, layout: Layout) throws -> Tensor {
  let counts =
    try layout.valid?.cast(to: .float32).sum(axis: 1).floats().map { Int($0) }
    ?? Array(repeating: layout.length, count: layout.batch)
  let one = try Tensor.concatenated(
    [Tensor.ones([1] + decay.shape.dropFirst()), Tensor.zeros([1] + decay.shape.dropFirst())], axis: 0)
  var power = try one.expanded(at: 0).broadcast(to: [layout.batch] + decay.shape)
  var (square, rest) = (decay, counts)
  while rest.contains(where: { $0 > 0 }) {
    let isOdd = try Tensor(rest.map { UInt8($0 & 1) }, shape: [layout.batch, 1, 1, 1])
    power = try Tensor.selecting(isOdd, complexProduct(power, square), power)
    square = try complexProduct(square, square)
    rest = rest.map { $0 >> 1 }
  }
  guard let resets = layout.resets, layout.length > 0 else { return power }
  let kept = try 1 - resets.cast(to: .float32).maximum(axis: 1)
  return try power * kept.reshaped([layout.batch, 1, 1, 1])
}
