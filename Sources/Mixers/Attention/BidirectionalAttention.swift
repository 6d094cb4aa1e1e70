import FermataLayers
import FermataTensors

/// Attention of every token to every token (Vaswani et al. 2017), as encoders have it. A sequence is one piece: its state
/// only says that it has been read.
///
///     o_t = Σ_s softmax_s(q_t · k_s / √d) v_s over all s of t's document that are no padding
public struct BidirectionalAttention: Mixer {
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

  public var laws: Laws { Laws(cut: .none, merge: .associative(cost: "keys and values of the stretch")) }
  public func initialState(batch: Int) throws -> MixerState { MixerState() }
  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 0 }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    try require(
      state.position == 0, "bidirectional attention", expected: "a whole sequence as one piece",
      got: "a piece that follows \(state.position) tokens", advice: "give the whole sequence at once")
    try require(
      piece.layout.parents == nil, "bidirectional attention", expected: "a sequence", got: "a tree of drafts")
    let position = try state.position(after: piece.length)
    func split(_ x: Tensor) throws -> Tensor { try x.reshaped([piece.batch, piece.length, heads, headWidth]) }
    let x = piece.values
    let mixed = try attention(
      split(projections.query(x)), split(projections.key(x)), split(projections.value(x)),
      mask: Self.mask(piece.layout))
    state.position = position
    return try projections.output(mixed.reshaped([piece.batch, piece.length, heads * headWidth]))
  }

  /// Documents see themselves; padding is not seen. What padding sees means nothing, but is what published models compute.
  private static func mask(_ layout: Layout) throws -> AttentionMask {
    var mask = AttentionMask.everything
    guard layout.valid != nil || layout.resets != nil else { return mask }
    let valid = try layout.valid?.values(as: UInt8.self)
    let resets = try layout.resets?.values(as: UInt8.self)
    var documents = [Int32](repeating: 0, count: layout.batch * layout.length)
    for index in documents.indices where index % layout.length > 0 {
      documents[index] = documents[index - 1] + (resets?[index] == 1 ? 1 : 0)
    }
    let shape = [layout.batch, layout.length]
    mask.queryDocuments = try Tensor(documents, shape: shape)
    mask.keyDocuments = try Tensor(documents.indices.map { valid?[$0] == 0 ? -1 : documents[$0] }, shape: shape)
    return mask
  }
}
