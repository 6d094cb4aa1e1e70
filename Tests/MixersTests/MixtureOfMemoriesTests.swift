import FermataFiles
import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

@Suite struct MixtureOfMemoriesTests {
  private static let width = 12

  private func make(_ json: String) throws -> any Mixer {
    var random = RandomSource(seed: 1)
    return try MixerRegistry.standard.make(
      width: Self.width, configuration: StrictJSON.parse(Array(json.utf8), place: "test"), random: &random)
  }

  /// One memory, which every token goes to, is the mixer whose rule it has.
  @Test(arguments: ["delta_rule", "gated_delta_rule", "gated_linear_attention"]) func oneMemoryIsTheMixer(
    _ rule: String
  )
    throws
  {
    let plain = try make(#"{"type": "\#(rule)", "num_heads": 2, "key_dim": 3}"#)
    let parameters = try Dictionary(uniqueKeysWithValues: plain.parameters().map { ($0.name, $0.value) })
    let joined = try #require(parameters["in_proj.weight"])
    // Rows of queries, keys, values, the gate where there is one, and what the rule wants.
    let hasGate = rule != "delta_rule"
    let (keys, rest) = (6, joined.shape[0] - 12 - (hasGate ? 2 : 1) * Self.width)
    let parts = try joined.split(sizes: [keys, keys, Self.width, hasGate ? Self.width : 0, rest], axis: 0)
    var mixture = try make(
      #"{"type": "mixture_of_memories", "num_heads": 2, "key_dim": 3, "num_memories": 1, "memory": "\#(rule)", "#
        + #""shared_memory": false}"#)
    var random = TestRandom("one memory \(rule)")
    let gate = hasGate ? parts[3] : try random.tensor([Self.width, Self.width])
    try mixture.updateParameters { name, value in
      switch name {
      case "in_proj.weight": value = try Tensor.concatenated([parts[0], gate], axis: 0)
      case "memories.0.in_proj.weight": value = try Tensor.concatenated([parts[1], parts[2], parts[4]], axis: 0)
      case "router.weight": break
      default: value = try #require(parameters[name.replacing("memories.0.", with: "")])
      }
    }
    guard hasGate else {
      // The delta rule has no output gate, so only what is remembered is compared.
      return try compare(mixture, plain, &random, outputs: false)
    }
    try compare(mixture, plain, &random, outputs: true)
  }

  private func compare(_ mixture: any Mixer, _ plain: any Mixer, _ random: inout TestRandom, outputs: Bool) throws {
    let piece = try Piece(random.tensor([2, 70, Self.width]))
    var (mixed, alone) = (try mixture.initialState(batch: 2), try plain.initialState(batch: 2))
    let (y, expected) = (try mixture(piece, state: &mixed), try plain(piece, state: &alone))
    if outputs { try expectClose(y, expected, .fused(.float32), "outputs") }
    try expectClose(mixed.tensor("memory.0"), alone.tensor("state"), .fused(.float32), "state")
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
      #""key_dim": 0"#,
    ] {
      #expect(throws: ConfigurationError.self, "\(settings)") {
        try make(#"{"type": "mixture_of_memories", "num_heads": 2, \#(settings)}"#)
      }
    }
  }
}
