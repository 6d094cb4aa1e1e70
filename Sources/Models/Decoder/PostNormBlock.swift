import FermataLayers
import FermataMixers
import FermataTensors

extension PlainFeedForward: FeedForwardLayer {}

/// norm(x + mixer(x)), then norm(x + feedForward(x)), as the first transformers had it (Vaswani et al. 2017).
public struct PostNormBlock: DecoderBlock {
  /// What checkpoints call the parts.
  public struct Names: Sendable {
    /// The mixer.
    public var mixer: String
    /// The norm behind the mixer.
    public var mixerNorm: String
    /// The norm behind the feed-forward layer.
    public var feedForwardNorm: String

    /// The names in a family's checkpoints.
    public init(mixer: String, mixerNorm: String, feedForwardNorm: String) {
      (self.mixer, self.mixerNorm, self.feedForwardNorm) = (mixer, mixerNorm, feedForwardNorm)
    }
  }

  /// What mixes tokens.
  public var mixer: any Mixer
  /// Norms the sum of the mixer's input and output.
  public var mixerNorm: LayerNorm
  /// What changes each token by itself.
  public var feedForward: PlainFeedForward
  /// Norms the sum of the feed-forward layer's input and output.
  public var feedForwardNorm: LayerNorm
  private let names: Names

  /// A block of these parts.
  public init(
    mixer: any Mixer, feedForward: PlainFeedForward, width: Int, epsilon: Float, names: Names
  ) throws {
    self.mixer = mixer
    self.feedForward = feedForward
    self.names = names
    mixerNorm = try LayerNorm(width, epsilon: epsilon)
    feedForwardNorm = try LayerNorm(width, epsilon: epsilon)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module(names.mixer, &mixer)
    try visitor.module(names.mixerNorm, &mixerNorm)
    try visitor.module("", &feedForward)
    try visitor.module(names.feedForwardNorm, &feedForwardNorm)
  }

  public var cut: CutScope { mixer.laws.cut }
  public var dependsOnLength: Bool { false }
  public mutating func fix(length: Int) {}
  public func initialState(batch: Int) throws -> MixerState { try mixer.initialState(batch: batch) }
  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    mixer.stateBytes(batch: batch, length: length, dtype: dtype)
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let x = try mixerNorm(piece.values + mixer(piece, state: &state))
    return try feedForwardNorm(x + feedForward(x))
  }
}

extension [PostNormBlock] {
  /// All blocks one after another over a whole sequence.
  func callAsFunction(_ x: Tensor, layout: Layout) throws -> Tensor {
    try reduce(x) { x, block in
      var state = try block.initialState(batch: layout.batch)
      return try block(Piece(x, layout: layout), state: &state)
    }
  }
}
