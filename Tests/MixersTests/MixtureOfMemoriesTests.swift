import FermataFiles
import FermataLayers
import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

@Suite struct MixtureOfMemoriesTests {
  private static let width = 12

  private func make(_ json: String, in registry: MixerRegistry = .standard) throws -> any Mixer {
    var random = RandomSource(seed: 1)
    return try registry.make(
      width: Self.width, configuration: StrictJSON.parse(Array(json.utf8), place: "test"), random: &random)
  }

  /// A mixer with two heads as the only memory of a mixture.
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    /// Its settings beside heads and key width.
    var settings = ""
    var keyWidth: Int? = 3
    /// Rows of queries, of keys, and of values in its projection.
    var keys = 6
    var values = 12
    var hasGate = true
    /// Whether its norm is the mixture's.
    var hasSameOutputs = true
    var testDescription: String { "\(name) \(settings)" }

    var keySetting: String { keyWidth.map { #", "key_dim": \#($0)"# } ?? "" }
    /// The mixer by itself, and as a memory.
    var plain: String { #"{"type": "\#(name)", "num_heads": 2\#(keySetting)\#(settings)}"# }
    var mixture: String {
      #"{"type": "mixture_of_memories", "num_heads": 2\#(keySetting), "num_memories": 1, "shared_memory": false, "#
        + #""memory": {"type": "\#(name)"\#(settings)}}"#
    }

    static let all = [
      Case(name: "delta_rule", hasGate: false, hasSameOutputs: false), Case(name: "gated_delta_rule"),
      Case(name: "gated_delta_rule", settings: #", "allow_neg_eigval": true"#), Case(name: "gated_linear_attention"),
      Case(name: "gated_linear_attention", settings: #", "gate": "scalar""#),
      Case(name: "retnet", keyWidth: 4, keys: 8, values: 24),
      Case(name: "retnet", settings: #", "expand_v": 1"#, keyWidth: 4, keys: 8),
      Case(name: "lightning_attention", settings: #", "decay_scale": 0.3"#, hasSameOutputs: false),
      Case(name: "linear_attention", hasGate: false, hasSameOutputs: false),
      Case(
        name: "linear_attention", settings: #", "feature_map": "silu", "normalization": "none""#, hasGate: false,
        hasSameOutputs: false),
      Case(
        name: "based", settings: #", "feature_dim": 3, "sliding_window": 0"#, keyWidth: nil, hasGate: false,
        hasSameOutputs: false),
    ]
  }

  /// One memory, which every token goes to, is the mixer whose rule it has.
  @Test(arguments: Case.all) func oneMemoryIsTheMixer(_ example: Case) throws {
    let plain = try make(example.plain)
    let parameters = try Dictionary(uniqueKeysWithValues: plain.parameters().map { ($0.name, $0.value) })
    let joined = try #require(parameters["in_proj.weight"])
    let gate = example.hasGate ? example.values : 0
    let rest = joined.shape[0] - 2 * example.keys - example.values - gate
    let parts = try joined.split(sizes: [example.keys, example.keys, example.values, gate, rest], axis: 0)
    var mixture = try make(example.mixture)
    var random = TestRandom("one memory \(example)")
    let outputGate = example.hasGate ? parts[3] : try random.tensor([example.values, Self.width])
    try mixture.updateParameters { name, value in
      switch name {
      case "in_proj.weight": value = try Tensor.concatenated([parts[0], outputGate], axis: 0)
      case "memories.0.in_proj.weight": value = try Tensor.concatenated([parts[1], parts[2], parts[4]], axis: 0)
      case "router.weight": break
      default: value = parameters[name.replacing("memories.0.", with: "")] ?? value
      }
    }
    let piece = try Piece(random.tensor([2, 70, Self.width]))
    var (mixed, alone) = (try mixture.initialState(batch: 2), try plain.initialState(batch: 2))
    let (y, expected) = (try mixture(piece, state: &mixed), try plain(piece, state: &alone))
    if example.hasSameOutputs { try expectClose(y, expected, .fused(.float32), "outputs") }
    try expectClose(mixed.tensor("memory.0"), alone.tensor("state"), .fused(.float32), "state")
  }

  /// Every mixer of the table whose state is a matrix memory can be a memory, and keeps the laws as one.
  @Test func everyMatrixMixerIsAMemory() throws {
    let kinds = MixerRegistry.standard.entries.filter { $0.memoryKind != nil }.map(\.name)
    #expect(Set(kinds) == Set(Case.all.map(\.name)))
    for example in Case.all {
      let mixture = try make(example.mixture.replacing(#""num_memories": 1"#, with: #""num_memories": 3"#))
      let subject = Subject(name: "memories of \(example)", mixer: mixture, width: Self.width)
      try subject.keepsCutLaw(length: 40, from: 5)
      try subject.keepsMergeLaw()
      try subject.packsDocuments()
      try subject.knowsItsSize()
    }
  }

  /// A client's own mixer is found in the client's table.
  @Test func clientsMixersAreMemories() throws {
    let json = #"{"type": "mixture_of_memories", "num_heads": 2, "memory": {"type": "halving", "key_dim_": 1}}"#
    let good = json.replacing(#", "key_dim_": 1"#, with: "")
    let registry = MixerRegistry.standard.adding(Halving.self)
    let mixture = try make(good, in: registry)
    try Subject(name: "halving memories", mixer: mixture, width: Self.width).keepsCutLaw(length: 20, from: 0)
    #expect(throws: JSONError.self) { try make(json, in: registry) }
    #expect(throws: ConfigurationError.self) { try make(good) }
  }

  /// Choices are the highest scores, the lower index first where two are equal; recorded ones are obeyed.
  @Test func choosesTheHighest() throws {
    let scores = try Tensor([Float(1), 3, 2, 5, 5, 5, -1, .nan, 0], shape: [1, 3, 3])
    #expect(try Array(Routing.choices(scores, top: 2).values(as: Int32.self).prefix(4)) == [1, 2, 0, 1])
    let mixer = try #require(
      make(#"{"type": "mixture_of_memories", "num_heads": 2, "num_memories": 3, "top_k": 1}"#) as? MixtureOfMemories)
    var random = TestRandom()
    let piece = try Piece(random.tensor([1, 5, Self.width]))
    let recorded = try Tensor([Int32(2), 2, 2, 2, 2], shape: [1, 5, 1])
    var state = try mixer.initialState(batch: 1)
    _ = try mixer.choosing(recorded)(piece, state: &state)
    #expect(try state.tensor("memory.0").floats().allSatisfy { $0 == 0 })
    #expect(try state.tensor("memory.2").floats().contains { $0 != 0 })
    #expect(throws: TensorError.self) {
      var state = try mixer.initialState(batch: 1)
      _ = try mixer.choosing(Tensor([Int32(3), 0, 0, 0, 0], shape: [1, 5, 1]))(piece, state: &state)
    }
  }

  @Test func refusesWhatCannotBe() throws {
    for settings in [
      #""num_memories": 0"#, #""num_memories": 2, "top_k": 3"#, #""top_k": 0"#, #""memory": "softmax_attention""#,
      #""key_dim": 0"#, #""memory": 3"#, #""memory": {"type": "delta_rule", "num_heads": 2}"#,
      #""memory": {"type": "delta_rule", "conv_size": 4}"#, #""memory": {"type": "based", "sliding_window": 8}"#,
      #""memory": {"gate": "scalar"}"#, #""memory": "mixture_of_memories""#,
    ] {
      #expect(throws: ConfigurationError.self, "\(settings)") {
        try make(#"{"type": "mixture_of_memories", "num_heads": 2, \#(settings)}"#)
      }
    }
  }
}

/// A memory that forgets half of itself with every token.
private struct Halving: MatrixMixer {
  struct Options: Codable, Sendable {
    var heads: Int
    enum CodingKeys: String, CodingKey { case heads = "num_heads" }
  }

  struct Rule: MemoryRule {
    mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {}
    func complete(_ tokens: inout MatrixTokens, x: Tensor, columns: Tensor, positions: Tensor?) throws {
      tokens.gate = try Tensor.full(Array(tokens.key.shape.dropLast()), -0.693)
    }
  }

  static let name = "halving"
  static let card = MixerCard(
    family: .linearAttention, summary: "halves", state: "4 · width²", cost: "width²", weakness: "remembering",
    source: "none")
  static let examples = [#"{"num_heads": 2}"#]
  static let optionKeys = ["num_heads"]

  let memory: MatrixMemory
  let update = Rule()
  var projections: MemoryProjections

  init(width: Int, options: Options, random: inout RandomSource) throws {
    memory = try Self.memory(width: width, options: options)
    projections = try MemoryProjections(memory, width: width, isGated: false, random: &random)
  }

  static func memory(width: Int, options: Options) throws -> MatrixMemory {
    try MatrixMemory(name, width: width, heads: options.heads, keyWidth: nil)
  }

  static func rule(_ memory: MatrixMemory, width: Int, options: Options, random: inout RandomSource) throws -> Rule {
    Rule()
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try projections.visitParameters(&visitor)
  }
}
