import FermataLayers
import FermataTensors

/// Where tokens become vectors: their embedding, times a scale, with learned positions added, then normed; all but the
/// embedding may be absent.
public struct TokenEntrance: Module {
  /// What checkpoints call the parts. An embedding without a name belongs to another part of the model.
  public struct Names: Sendable {
    /// The table of tokens.
    public var embedding: String
    /// The table of learned positions.
    public var positions: String
    /// The norm of the sum.
    public var norm: String

    /// The names in a family's checkpoints.
    public init(embedding: String, positions: String = "", norm: String = "") {
      (self.embedding, self.positions, self.norm) = (embedding, positions, norm)
    }
  }

  /// A row for each token.
  public var embedding: Embedding
  /// What embeddings are multiplied with; nil: nothing.
  public var scale: Float?
  /// Learned positions, added; nil: none.
  public var positions: LearnedPositions?
  /// Norms the sum; nil: nothing does.
  public var norm: LayerNorm?
  private let names: Names

  /// Embeddings alone; give the other parts to the properties.
  public init(_ names: Names, embedding: Embedding) {
    self.names = names
    self.embedding = embedding
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    if !names.embedding.isEmpty { try visitor.module(names.embedding, &embedding) }
    try visitor.module(names.positions, &positions)
    try visitor.module(names.norm, &norm)
  }

  /// tokens (batch, length) at positions (batch, length), or at `start` onwards, to (batch, length, width).
  /// - Parameter extra: what else is added before the norm.
  public func callAsFunction(
    _ tokens: Tensor, positions given: Tensor?, from start: Int, as dtype: DType, adding extra: Tensor? = nil
  ) throws -> Tensor {
    var x = try embedding(tokens).cast(to: dtype)
    if let scale { x = try x * scale }
    if let extra { x = try x + extra.cast(to: dtype) }
    if let positions { x = try x + positions(given, from: start, length: tokens.shape[1]).cast(to: dtype) }
    return try norm?(x) ?? x
  }
}
