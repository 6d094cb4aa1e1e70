import FermataLayers
import FermataTensors

/// Attention of a sequence to its context, an encoder's output (Vaswani et al. 2017).
///
///     o_t = Σ_s softmax_s(q_t · k_s / √d) v_s with q from the sequence, k and v from all of the context
///
/// State: keys and values of the context (batch, context length, heads, headWidth), made with the first piece and constant
/// after it, so the sequence may be cut anywhere. Cost per token: 4 · context length · width.
public struct CrossAttention: Mixer {
  public var projections: AttentionProjections
  public let heads: Int
  public let headWidth: Int

  public init(
    width: Int, heads: Int, names: AttentionProjections.Names = AttentionProjections.Names(),
    random: inout RandomSource
  ) throws {
    guard heads > 0, width % heads == 0 else {
      throw ConfigurationError("attention", "the number of heads (\(heads)) must divide the width (\(width))")
    }
    projections = try AttentionProjections(
      width: width, queryWidth: width, keyWidth: width, bias: true, outputBias: true, names: names, random: &random)
    (self.heads, headWidth) = (heads, width / heads)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("", &projections)
  }

  public var laws: Laws {
    Laws(cut: .causal, merge: .none(reason: "the state is the context's and no stretch of the sequence changes it"))
  }
  public func initialState(batch: Int) throws -> MixerState { MixerState() }
  /// The context's length is not known; it does not depend on the sequence's.
  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 0 }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    guard let context = piece.context else {
      throw TensorError("cross attention", expected: "a piece with a context", got: "none")
    }
    let position = try state.position(after: piece.length)
    func split(_ x: Tensor) throws -> Tensor { try x.reshaped([x.shape[0], x.shape[1], heads, headWidth]) }
    let keys = try state["context_keys"] ?? split(projections.key(context))
    let values = try state["context_values"] ?? split(projections.value(context))
    try require(
      keys.rank == 4 && keys.shape == values.shape && keys.shape[0] == piece.batch
        && keys.shape[1] == context.shape[1], "cross attention",
      expected: "a state with keys of the context's \(context.shape[1]) tokens", got: "\(keys)",
      advice: "the state was made with another context")
    var mask = AttentionMask.everything
    if let valid = piece.contextValid {
      mask.keyDocuments = try valid.cast(to: .int32) - Tensor.ones([], .int32)
      mask.queryDocuments = try Tensor.zeros([1, piece.length], .int32)
    }
    let mixed = try attention(split(projections.query(piece.values)), keys, values, mask: mask)
    let y = try projections.output(mixed.reshaped([piece.batch, piece.length, heads * headWidth]))
    (state["context_keys"], state["context_values"], state.position) = (keys, values, position)
    return y
  }
}
