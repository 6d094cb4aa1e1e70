import FermataLayers
import FermataMixers
import FermataTensors

/// A prefix language model's attention (Raffel et al. 2020): the first piece is read in both directions, as one, and sealed;
/// what follows sees it and its own past. Cut anywhere after the seal.
struct PrefixAttention: Mixer {
  var projection: Linear
  let positions: RotaryPositions
  let width: Int

  init(width: Int, random: inout RandomSource) throws {
    self.width = width
    projection = try Linear(width, 3 * width, random: &random)
    positions = try RotaryPositions(width: width)
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("qkv_proj", &projection)
  }

  var laws: Laws {
    Laws(cut: .afterSeal, merge: .none(reason: "a stretch does not know whether it stands in the prefix"))
  }
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 2 * batch * length * width * dtype.byteCount }
  func initialState(batch: Int) throws -> MixerState { MixerState() }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    try require(
      piece.layout.isPlain, "prefix attention", expected: "one document without padding", got: "another layout")
    try require(
      state.isSealed || state.position == 0, "prefix attention", expected: "the prefix as one piece, then a seal",
      got: "a second piece before the seal", advice: "call seal(_:) after the prefix")
    let standing = try Tensor.range(piece.length, from: Double(state.position)).expanded(at: 0)
    let parts = try projection(piece.values).split(sizes: [width, width, width], axis: 2).map { try $0.expanded(at: 2) }
    let query = try positions.apply(parts[0], positions: standing)
    var keys = try positions.apply(parts[1], positions: standing)
    var values = parts[2]
    if state.position > 0 {
      keys = try Tensor.concatenated([state.tensor("keys"), keys], axis: 1)
      values = try Tensor.concatenated([state.tensor("values"), values], axis: 1)
    }
    try require(
      keys.shape == values.shape && keys.shape[1] == state.position + piece.length, "prefix attention",
      expected: "keys and values up to position \(state.position)", got: "\(keys), \(values)")
    // Before the seal everything sees everything; after it the past is whole anyway.
    let mixed = try attention(query, keys, values, mask: state.isSealed ? .causal : .everything)
    state["keys"] = keys
    state["values"] = values
    state.position += piece.length
    return try mixed.reshaped(piece.values.shape)
  }
}
