import FermataFiles
import FermataLayers
import FermataTensors

/// Mixture of memories (MoM, Du et al. 2025): several matrix memories, of which each token writes and reads only a few, so that what
/// belongs to different things does not overwrite each other; and one that all tokens share.
///
///     c_t = the top_k highest of W_g x_t,   w_t = softmax over those scores
///     o_t = Σ_{m in c_t} w_tm read_m(q_t) + read_shared(q_t),   y = W_o (norm(o) · silu(W_r x))
///
/// Queries are one projection for all; each memory has its own keys, values and gates. `memory` is a mixer whose state is a matrix
/// memory, by name (`gated_delta_rule`) or with its settings (`{"type": "gated_linear_attention", "gate": "scalar"}`): the memories are of
/// its shape and tokens write by its rule. A token that a memory was not chosen by neither decays it nor adds to it. Choices depend
/// on the token alone, so that cuts cannot change them; the scores are f32 in every compute type.
///
/// State: `num_memories` (4) and the shared one, each as the mixer's, and 8 bytes that count tokens where the rule reads positions.
/// Cost per token: that of the rule, top_k (2) + 1 times. Merge: as the rule's, for each memory.
/// Bad at: training without a loss that balances the memories, as some may never be chosen.
public struct MixtureOfMemories: CompositeMixer {
  public struct Options: Codable, Sendable {
    public var heads: Int
    public var keyWidth: Int?
    public var memories: Int?
    public var top: Int?
    /// A name, or an object with the key "type" and the mixer's own keys but for heads and key width.
    public var memory: JSONValue?
    public var isShared: Bool?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case heads = "num_heads"
      case keyWidth = "key_dim"
      case memories = "num_memories"
      case top = "top_k"
      case memory
      case isShared = "shared_memory"
    }
  }

  public static let name = "mixture_of_memories"
  public static let card = MixerCard(
    family: .linearAttention, summary: "tokens routed to a few of several matrix memories, beside a shared one (MoM)",
    state: "(num_memories + 1) · that of the mixer named as memory", cost: "(top_k + 1) · that of the rule",
    weakness: "training without a loss that balances the memories: some may never be chosen",
    source: "Du et al. 2025")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    #"{"num_heads": 2, "key_dim": 6}"#,
    #"{"num_heads": 1, "key_dim": 5, "num_memories": 3, "top_k": 1, "memory": "gated_linear_attention"}"#,
    #"{"num_heads": 2, "key_dim": 4, "memory": "linear_attention", "shared_memory": false}"#,
    #"{"num_heads": 1, "num_memories": 2, "top_k": 1, "memory": {"type": "retnet", "expand_v": 1}, "key_dim": 6}"#,
    #"{"num_heads": 1, "num_memories": 2, "memory": {"type": "based", "feature_dim": 3}}"#,
  ]

  /// Queries and the output gate.
  public var input: Linear
  public var router: Linear
  public var memories: [RoutedMemory]
  public var shared: RoutedMemory?
  public var norm: RMSNorm
  public var output: Linear
  public let memory: MatrixMemory
  public let top: Int
  /// Choices to make instead of the router's own: `choosing(_:)`.
  private var recorded: Tensor?

  public init(width: Int, options: Options, registry: MixerRegistry, random: inout RandomSource) throws {
    let kind = try Self.kind(options, width: width, registry: registry)
    let count = options.memories ?? 4
    top = options.top ?? min(2, count)
    guard (1...256).contains(count), (1...count).contains(top) else {
      throw ConfigurationError(
        "mixer '\(Self.name)'", "num_memories must be in 1...256 and top_k in 1...num_memories, got \(count) and \(top)"
      )
    }
    memory = kind.memory
    let values = memory.heads * memory.valueWidth
    input = try Linear(width, memory.heads * memory.keyWidth + values, random: &random)
    router = try Linear(width, count, random: &random)
    memories = try (0..<count).map { _ in try RoutedMemory(kind, width: width, random: &random) }
    shared = options.isShared ?? true ? try RoutedMemory(kind, width: width, random: &random) : nil
    norm = try RMSNorm(memory.valueWidth)
    output = try Linear(values, width, random: &random)
  }

  /// What `memory` names, with the mixture's heads and key width.
  private static func kind(_ options: Options, width: Int, registry: MixerRegistry) throws -> MemoryKind {
    var fields: [String: JSONValue]
    switch options.memory ?? .string(GatedDeltaRule.name) {
    case .string(let name): fields = ["type": .string(name)]
    case .object(let given): fields = given
    case let other:
      throw ConfigurationError(
        "mixer '\(name)'", "memory must be the name of a mixer or an object with its settings, got \(other)")
    }
    if let key = ["num_heads", "key_dim"].first(where: { fields[$0] != nil }) {
      throw ConfigurationError("mixer '\(name)'", "\(key) belongs beside memory, not into it")
    }
    fields["num_heads"] = .int(options.heads)
    fields["key_dim"] = options.keyWidth.map { .int($0) }
    return try registry.memoryKind(width: width, configuration: .object(fields))
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("in_proj", &input)
    // Rounded scores would choose other memories.
    try visitor.module("router", &router, role: .coefficient)
    for index in memories.indices { try visitor.module("memories.\(index)", &memories[index]) }
    try visitor.module("shared", &shared)
    try visitor.module("norm", &norm)
    try visitor.module("o_proj", &output)
  }

  public var laws: Laws {
    guard case .associative(let cost) = memory.laws.merge else { return memory.laws }
    return Laws(cut: .causal, merge: .associative(cost: "\(cost), for each memory"))
  }

  // MARK: State

  private static let sharedName = "shared"
  private var names: [String] { memories.indices.map { "memory.\($0)" } + (shared == nil ? [] : [Self.sharedName]) }

  /// Whether the state counts tokens.
  private var readsPositions: Bool { memories.first?.rule.readsPositions ?? false }

  public func initialState(batch: Int) throws -> MixerState {
    var state = MixerState()
    for name in names { state[name] = try memory.zeros(batch: batch) }
    if readsPositions { state[CountedPositions.name] = try CountedPositions.initial(batch: batch) }
    return state
  }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    names.count * memory.stateBytes(batch: batch) + (readsPositions ? CountedPositions.stateBytes(batch: batch) : 0)
  }

  // MARK: Mixing

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let counted = readsPositions ? try CountedPositions(state, piece.layout) : nil
    let parts = try routed(piece, positions: counted?.positions)
    var next = state
    next.position = try state.position(after: piece.length)
    var readings: [Tensor] = []
    for (name, part) in zip(names, parts.memories) {
      var own = MixerState(tensors: [MatrixMemory.name: try state.tensor(name)])
      let read = try memory.read(part.tokens, part.layout, state: &own)
      next[name] = own[MatrixMemory.name]
      readings.append(read)
    }
    counted?.advance(&next)
    let common = shared == nil ? nil : readings.removeLast()
    var mixed = try mixture(readings, parts)
    if let common { mixed = try mixed + common }
    let gated = try norm(mixed) * parts.outputGate.silu()
    let y = try output(gated.reshaped([piece.batch, piece.length, memory.heads * memory.valueWidth]))
    state = next
    return y
  }

  /// A piece taken apart: what is asked of and written into each memory, the shared one last.
  private struct Parts {
    var memories: [(tokens: MatrixTokens, layout: Layout)] = []
    var routing: Routing
    var scores: Tensor
    var outputGate: Tensor
  }

  private func routed(_ piece: Piece, positions: Tensor?) throws -> Parts {
    let piece = try piece.sequence(for: Self.name)
    let (batch, length) = (piece.batch, piece.length)
    let keys = memory.heads * memory.keyWidth
    let projected = try input(piece.values).split(sizes: [keys, memory.heads * memory.valueWidth], axis: 2)
    let scores = try router(piece.values.cast(to: .float32))
    let routing = try Routing(
      recorded ?? Routing.choices(scores, top: top), memories: memories.count, layout: piece.layout)
    var parts = Parts(
      routing: routing, scores: scores,
      outputGate: try projected[1].reshaped([batch, length, memory.heads, memory.valueWidth]))
    let table = try piece.values.reshaped([batch * length, piece.values.shape[2]])
    let queries = try projected[0].reshaped([batch * length, keys])
    for (own, sequence) in zip(memories, routing.sequences) {
      let tokens = try own.tokens(
        table.rows(at: sequence.tokens), query: queries.rows(at: sequence.tokens),
        positions: positions.map { try sequence.gathered($0) })
      parts.memories.append((tokens, sequence.layout))
    }
    if let shared {
      let tokens = try shared.tokens(piece.values, query: projected[0], positions: positions)
      parts.memories.append((tokens, piece.layout))
    }
    return parts
  }

  /// Each token's readings, weighted and added: (batch, length, heads, valueWidth).
  private func mixture(_ readings: [Tensor], _ parts: Parts) throws -> Tensor {
    let (batch, length) = (parts.scores.shape[0], parts.scores.shape[1])
    let width = memory.heads * memory.valueWidth
    let shape = [batch, length, memory.heads, memory.valueWidth]
    let rows = try Tensor.concatenated(readings.map { try $0.reshaped([$0.shape[0] * $0.shape[1], width]) }, axis: 0)
    if rows.count == 0 { return try Tensor.zeros(shape, rows.dtype) }
    let scores = try parts.scores.reshaped([parts.scores.count, 1]).rows(at: parts.routing.chosenScores)
    let weights = try scores.reshaped([batch, length, top]).softmax().cast(to: rows.dtype)
    let chosen = try rows.rows(at: parts.routing.readings) * weights.expanded(at: 3)
    return try chosen.sum(axis: 2).reshaped(shape)
  }
}

extension MixtureOfMemories: MergingMixer {
  public func summarise(_ piece: Piece) throws -> Summary {
    try require(
      piece.layout.resets == nil && (piece.layout.valid == nil || !readsPositions), "summarise",
      expected: "a stretch of one document, for rules that read positions without padding", got: "resets or padding",
      advice: "summarise each document, or each row, by itself")
    let parts = try routed(piece, positions: readsPositions ? piece.absolutePositions(for: Self.name) : nil)
    var summary = Summary(length: piece.length, tensors: [:])
    for (name, part) in zip(names, parts.memories) {
      summary.insert(try memory.summarise(part.tokens, part.layout), name)
    }
    return summary
  }

  public func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    var summary = Summary(length: left.length + right.length, tensors: [:])
    for name in names { summary.insert(try memory.merged(left.part(name), right.part(name)), name) }
    return summary
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    var next = state
    next.position = try state.position(after: summary.length)
    for name in names {
      var own = MixerState(tensors: [MatrixMemory.name: try state.tensor(name)])
      try memory.advance(&own, by: summary.part(name))
      next[name] = own[MatrixMemory.name]
    }
    if readsPositions { try CountedPositions.advance(&next, by: summary.length) }
    state = next
  }
}

extension MixtureOfMemories: ChoosingMixer {
  public func choices(_ piece: Piece) throws -> Tensor {
    try Routing.choices(router(piece.values.cast(to: .float32)), top: top)
  }

  public func choosing(_ choices: Tensor?) -> MixtureOfMemories {
    var copy = self
    copy.recorded = choices
    return copy
  }
}

extension Summary {
  /// Adds the tensors of one memory's summary under its name.
  fileprivate mutating func insert(_ part: Summary, _ name: String) {
    for (key, tensor) in part.tensors { tensors["\(name).\(key)"] = tensor }
  }

  /// One memory's summary. Tokens that did not choose the memory leave it alone, so its length says nothing.
  fileprivate func part(_ name: String) -> Summary {
    let own = tensors.filter { $0.key.hasPrefix("\(name).") }
    let named = own.map { (String($0.key.dropFirst(name.count + 1)), $0.value) }
    return Summary(length: 0, tensors: Dictionary(named) { first, _ in first })
  }
}
