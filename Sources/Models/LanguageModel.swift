import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors

/// One residual block: x + mixer(norm(x)), then, unless the mixer is all there is, x + feedForward(norm(x)).
public struct Block: Module {
  /// Before the mixer.
  public var inputNorm: RMSNorm
  /// What mixes tokens.
  public var mixer: any Mixer
  /// Before the feed-forward layer; nil without one.
  public internal(set) var postNorm: RMSNorm?
  /// What changes each token by itself; nil in blocks of mixers alone, as Mamba's are.
  public internal(set) var feedForward: FeedForward?

  /// A block of a mixer alone.
  public init(inputNorm: RMSNorm, mixer: any Mixer) {
    self.inputNorm = inputNorm
    self.mixer = mixer
  }

  /// A block of a mixer and a feed-forward layer.
  public init(inputNorm: RMSNorm, mixer: any Mixer, postNorm: RMSNorm, feedForward: FeedForward) {
    self.inputNorm = inputNorm
    self.mixer = mixer
    self.postNorm = postNorm
    self.feedForward = feedForward
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("input_layernorm", &inputNorm)
    try visitor.existential("mixer", &mixer)
    try visitor.module("post_attention_layernorm", &postNorm)
    try visitor.module("mlp", &feedForward)
  }

  /// `drop` is what training does to what the mixer and the feed-forward give back, counted 0 and 1.
  public func callAsFunction(
    _ piece: Piece, state: inout MixerState, drop: (Tensor, Int) throws -> Tensor = { x, _ in x }
  ) throws -> Tensor {
    let mixed = try mixer(
      Piece(inputNorm(piece.values), layout: piece.layout, context: piece.context), state: &state)
    let x = try piece.values + drop(mixed, 0)
    guard let feedForward, let postNorm else { return x }
    return try x + drop(feedForward(postNorm(x)), 1)
  }
}

extension ParameterVisitor {
  /// A module known only by its protocol.
  mutating func existential(_ name: String, _ value: inout any Mixer) throws {
    func open<M: Mixer>(_ mixer: M, _ visitor: inout ParameterVisitor) throws -> any Mixer {
      var copy = mixer
      try visitor.module(name, &copy)
      return copy
    }
    value = try open(value, &self)
  }
}

/// The states of a model's layers and how far it has read.
public struct ModelState: Sendable {
  /// The states of the layers, first to last.
  public var layers: [MixerState]
  /// Tokens read so far.
  public var position: Int { layers.first?.position ?? 0 }

  /// A state of these layers.
  public init(layers: [MixerState]) { self.layers = layers }

  /// The same states without their history: gradients stop here.
  public var detached: ModelState { ModelState(layers: layers.map(\.detached)) }
  /// The same states as leaves of a new graph.
  public var tracked: ModelState { ModelState(layers: layers.map(\.tracked)) }
  /// Bytes of all tensors together.
  public var byteCount: Int { layers.reduce(0) { $0 + $1.byteCount } }
  /// A copy that shares no memory.
  public func compacted() throws -> ModelState { ModelState(layers: try layers.map { try $0.compacted() }) }
}

/// A language model: embedding, blocks, norm, head. It obeys the cut law because its mixers do.
public struct LanguageModel: Module {
  /// What it was made from.
  public let configuration: ModelConfiguration
  /// A row for each token.
  public var embedding: Embedding
  /// The layers, first to last.
  public var blocks: [Block]
  /// Before the head.
  public var norm: RMSNorm
  /// nil: the head reads the embedding's table.
  public var head: Linear?
  /// Type of activations; f32 is exact, bf16 about twice as fast where the processor has it.
  public var computeType: DType = .float32
  /// Dropout of the step at hand, on the embedding and on what mixers and feed-forwards give back; nil outside training.
  public var dropout: Dropout?

  /// Fresh parameters.
  public init(
    _ configuration: ModelConfiguration, registry: MixerRegistry = .standard, seed: UInt64 = 0
  ) throws {
    try self.init(configuration, registry: registry, random: RandomSource(seed: seed, stream: 1))
  }

  init(_ configuration: ModelConfiguration, registry: MixerRegistry, random source: RandomSource) throws {
    self.configuration = configuration
    var random = source
    let width = configuration.width
    embedding = try Embedding(configuration.vocabularySize, width, random: &random)
    // Ways back into the residual stream start smaller the more of them there are (Radford et al. 2019).
    let hidden = configuration.feedForwardWidth
    let outputGain = 1 / Float(2 * configuration.layers).squareRoot()
    func norm() throws -> RMSNorm { try RMSNorm(width, epsilon: Float(configuration.normEpsilon)) }
    blocks = try (0..<configuration.layers).map { layer in
      let mixer = try registry.make(width: width, configuration: configuration.mixer(ofLayer: layer), random: &random)
      guard hidden > 0 else { return Block(inputNorm: try norm(), mixer: mixer) }
      return Block(
        inputNorm: try norm(), mixer: mixer, postNorm: try norm(),
        feedForward: try FeedForward(width, hidden: hidden, outputGain: outputGain, random: &random))
    }
    self.norm = try norm()
    head =
      configuration.tiesEmbeddings
      ? nil : try Linear(width, configuration.vocabularySize, gain: 1, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("model.embed_tokens", &embedding)
    for layer in blocks.indices { try visitor.module("model.layers.\(layer)", &blocks[layer]) }
    try visitor.module("model.norm", &norm)
    try visitor.module("lm_head", &head)
  }

  public func initialState(batch: Int) throws -> ModelState {
    ModelState(layers: try blocks.map { try $0.mixer.initialState(batch: batch) })
  }

  /// Where this model may be cut: as strictly as its strictest mixer.
  public var cut: CutScope {
    let scopes = blocks.map(\.mixer.laws.cut)
    return scopes.contains(.none) ? .none : scopes.contains(.afterSeal) ? .afterSeal : .causal
  }

  /// Hidden states (batch, length, width), after the last norm, for tokens (batch, length), I32.
  public func hidden(_ tokens: Tensor, layout: Layout? = nil, state: inout ModelState) throws -> Tensor {
    try require(
      tokens.rank == 2 && state.layers.count == blocks.count, "model",
      expected: "tokens (batch, length) and a state of \(blocks.count) layers",
      got: "\(tokens) and \(state.layers.count) layers")
    let position = state.position
    func drop(_ x: Tensor, _ stream: Int) throws -> Tensor {
      try dropout?(x, stream: stream, position: position) ?? x
    }
    var x = try drop(embedding(tokens).cast(to: computeType), 0)
    let layout = layout ?? Layout(batch: tokens.shape[0], length: tokens.shape[1])
    var next = state
    for (index, block) in blocks.enumerated() {
      // `state` keeps the states from before, for the case that a layer throws. Caches still grow in place: appending
      // writes behind what older values of a tensor show.
      var layerState = next.layers[index]
      next.layers[index] = MixerState()
      x = try block(Piece(x, layout: layout), state: &layerState) { try drop($0, 1 + 2 * index + $1) }
      next.layers[index] = layerState
    }
    state = next
    return try norm(x)
  }

  /// Logits (batch, length, vocabulary), f32.
  public func logits(_ tokens: Tensor, layout: Layout? = nil, state: inout ModelState) throws -> Tensor {
    let x = try hidden(tokens, layout: layout, state: &state)
    return try linear(x, weight: headWeight).cast(to: .float32)
  }

  /// The matrix of the head (vocabulary, width).
  public var headWeight: Tensor { head?.weight ?? embedding.weight }

  /// scale · Σ loss over tokens whose target is not negative, without ever holding all logits, and the losses one by one.
  public func loss(
    _ tokens: Tensor, targets: Tensor, layout: Layout? = nil, state: inout ModelState, scale: Float
  ) throws -> CrossEntropy {
    let x = try hidden(tokens, layout: layout, state: &state)
    return try crossEntropy(
      hidden: x.reshaped([-1, configuration.width]), weight: headWeight, targets: targets.reshaped([-1]), scale: scale)
  }

  /// Bytes that the states take after so many tokens.
  public func stateBytes(batch: Int, length: Int) -> Int {
    blocks.reduce(0) { $0 + $1.mixer.stateBytes(batch: batch, length: length, dtype: computeType) }
  }
}
