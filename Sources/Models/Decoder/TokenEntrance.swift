import FermataLayers
import FermataTensors

/// Where tokens become vectors: their embedding, times a scale, with learned positions added, then normed; all but the
/// embedding may be absent.
public struct TokenEntrance: Module {
  /// What checkpoints call the parts. An embedding without a name belongs to another part of the model.
  public struct Names: Sendable {
    public var embedding: String
    public var positions: String
    public var norm: String

    public init(embedding: String, positions: String = "", norm: String = "") {
      (self.embedding, self.positions, self.norm) = (embedding, positions, norm)
    }
  }

  public var embedding: Embedding
  public var scale: Float?
  public var positions: LearnedPositions?
  public var norm: LayerNorm?
  private let names: Names

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
