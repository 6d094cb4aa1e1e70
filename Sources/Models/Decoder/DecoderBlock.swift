import FermataLayers
import FermataMixers
import FermataTensors

/// One layer of a causal model: residual connections, norms, a mixer and what stands beside it.
public protocol DecoderBlock: Module, LengthDependent {
  var cut: CutScope { get }
  func initialState(batch: Int) throws -> MixerState
  /// (batch, length, width) to (batch, length, width)
  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor
  /// Bytes that the state takes after so many tokens.
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int
}

/// A feed-forward network: the same function of each token's features.
public protocol FeedForwardLayer: Module {
  /// (…, width) to (…, width)
  func callAsFunction(_ x: Tensor) throws -> Tensor
}

extension GatedFeedForward: FeedForwardLayer {}

/// x + mixer(norm(x)), then x + feedForward(norm(x)).
public struct PreNormBlock: DecoderBlock {
  /// What checkpoints call the parts.
  public struct Names: Sendable {
    /// Before the mixer.
    public var inputNorm = "input_layernorm"
    /// The mixer.
    public var mixer = "self_attn"
    /// Before the feed-forward layer.
    public var postNorm = "post_attention_layernorm"
    /// The feed-forward layer.
    public var feedForward = "mlp"

    /// As Llama has them.
    public init() {}
  }

  /// Before the mixer.
  public var inputNorm: any Norm
  /// What mixes tokens.
  public var mixer: any Mixer
  /// Before the feed-forward layer.
  public var postNorm: any Norm
  /// What changes each token by itself.
  public var feedForward: any FeedForwardLayer
  private let names: Names

  /// A block of these parts.
  public init(
    inputNorm: any Norm, mixer: any Mixer, postNorm: any Norm, feedForward: any FeedForwardLayer, names: Names = Names()
  ) {
    self.inputNorm = inputNorm
    self.mixer = mixer
    self.postNorm = postNorm
    self.feedForward = feedForward
    self.names = names
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module(names.inputNorm, &inputNorm)
    try visitor.module(names.mixer, &mixer)
    try visitor.module(names.postNorm, &postNorm)
    try visitor.module(names.feedForward, &feedForward)
  }

  public var cut: CutScope { mixer.laws.cut }
  public func initialState(batch: Int) throws -> MixerState { try mixer.initialState(batch: batch) }
  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    mixer.stateBytes(batch: batch, length: length, dtype: dtype)
  }

  public var dependsOnLength: Bool { (mixer as? any LengthDependent)?.dependsOnLength ?? false }
  public mutating func fix(length: Int) throws { try mixer.fixLength(length) }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let x = try piece.values + mixer(piece.with(inputNorm(piece.values)), state: &state)
    return try x + feedForward(postNorm(x))
  }
}

extension Mixer {
  /// Fixes the length of the sequences to come where the mixer depends on it.
  mutating func fixLength(_ length: Int) throws {
    guard var dependent = self as? any Mixer & LengthDependent else { return }
    try dependent.fix(length: length)
    if let fixed = dependent as? Self { self = fixed }
  }
}

extension Piece {
  /// Other values with the same layout and context.
  func with(_ values: Tensor) throws -> Piece {
    try Piece(values, layout: layout, context: context, contextValid: contextValid)
  }
}
