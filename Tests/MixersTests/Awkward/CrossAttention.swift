import FermataLayers
import FermataMixers
import FermataTensors

/// Attention to another sequence: what a piece reads comes with it as its context, so there is no state but the position,
/// every token stands for itself, and any cut will do.
struct CrossAttention: MergingMixer {
  var query: Linear
  var key: Linear
  var value: Linear
  let heads: Int

  init(width: Int, heads: Int, random: inout RandomSource) throws {
    self.heads = heads
    query = try Linear(width, width, random: &random)
    key = try Linear(width, width, random: &random)
    value = try Linear(width, width, random: &random)
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("q_proj", &query)
    try visitor.module("k_proj", &key)
    try visitor.module("v_proj", &value)
  }

  var laws: Laws { Laws(cut: .causal, merge: .associative(cost: "nothing: there is no state")) }
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 0 }
  func initialState(batch: Int) throws -> MixerState { MixerState() }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    guard let context = piece.context, piece.layout.parents == nil else {
      throw TensorError("cross attention", expected: "a sequence with a context", got: "none, or a tree")
    }
    func perHead(_ x: Tensor) throws -> Tensor {
      try x.reshaped([x.shape[0], x.shape[1], heads, x.shape[2] / heads])
    }
    var mask = AttentionMask.everything
    if let valid = piece.contextValid {
      mask.visible = try valid.expanded(at: 1).broadcast(to: [piece.batch, piece.length, context.shape[1]])
    }
    let mixed = try attention(
      perHead(query(piece.values)), perHead(key(context)), perHead(value(context)), mask: mask)
    state.position += piece.length
    return try mixed.reshaped(piece.values.shape)
  }

  func summarise(_ piece: Piece) throws -> Summary { Summary(length: piece.length, tensors: [:]) }
  func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    Summary(length: left.length + right.length, tensors: [:])
  }
  func advance(_ state: inout MixerState, by summary: Summary) throws { state.position += summary.length }
}
