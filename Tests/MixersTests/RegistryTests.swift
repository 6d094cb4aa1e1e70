import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors
import FermataTestSupport
import Testing

/// The table of mixers: names, keys, sizes, and mixers that clients add.
@Suite struct RegistryTests {
  private func make(_ json: String, width: Int = 24, in registry: MixerRegistry = .standard) throws -> any Mixer {
    var random = RandomSource(seed: 1)
    return try registry.make(
      width: width, configuration: StrictJSON.parse(Array(json.utf8), place: "test"), random: &random)
  }

  private func message(_ json: String, width: Int = 24) throws -> String {
    do {
      _ = try make(json, width: width)
    } catch {
      return "\(error)"
    }
    throw Mismatch("\(json) should have been refused")
  }

  @Test func namesTheNearestMixer() throws {
    #expect(try message(#"{"type": "softmax_atention"}"#).contains("did you mean 'softmax_attention'?"))
    let names = MixerRegistry.standard.entries.map(\.name).sorted().joined(separator: ", ")
    #expect(try message(#"{"type": "xyz"}"#).contains("known: \(names)"))
    #expect(try message(#"{"num_heads": 2}"#).contains("\"type\""))
    #expect(try message(#"[1]"#).contains("expected an object"))
  }

  @Test func refusesUnknownKeys() throws {
    let text = try message(#"{"type": "gated_linear_attention", "num_haeds": 2}"#)
    #expect(text.contains("num_haeds") && text.contains("did you mean 'num_heads'?"))
    #expect(try message(#"{"type": "lstm", "num_layers": 2}"#).contains("num_layers"))
    #expect(try message(#"{"type": "softmax_attention"}"#).contains("'num_attention_heads' is missing"))
    #expect(
      try message(#"{"type": "softmax_attention", "num_attention_heads": "2"}"#).contains("must be a whole number"))
  }

  @Test(arguments: [
    #"{"type": "softmax_attention", "num_attention_heads": 5}"#,
    #"{"type": "softmax_attention", "num_attention_heads": 0}"#,
    #"{"type": "softmax_attention", "num_attention_heads": -2}"#,
    #"{"type": "softmax_attention", "num_attention_heads": 4, "num_key_value_heads": 3}"#,
    #"{"type": "softmax_attention", "num_attention_heads": 8}"#,
    #"{"type": "softmax_attention", "num_attention_heads": 2, "head_dim": 1000000000000}"#,
    #"{"type": "softmax_attention", "num_attention_heads": 2, "sliding_window": -1}"#,
    #"{"type": "softmax_attention", "num_attention_heads": 2, "sinks": 4}"#,
    #"{"type": "softmax_attention", "num_attention_heads": 2, "rope_theta": 0}"#,
    #"{"type": "gated_linear_attention", "num_heads": 5}"#,
    #"{"type": "gated_linear_attention", "num_heads": 0}"#,
    #"{"type": "gated_linear_attention", "num_heads": 2, "key_dim": 0}"#,
    #"{"type": "gated_linear_attention", "num_heads": 2, "key_dim": 4611686018427387904}"#,
  ])
  func refusesImpossibleSizes(_ json: String) throws {
    #expect(throws: ConfigurationError.self) { try make(json) }
  }

  @Test func refusesUnknownGates() throws {
    let text = try message(#"{"type": "gated_linear_attention", "num_heads": 2, "gate": "vectr"}"#)
    #expect(text.contains("gate"))
  }

  @Test(arguments: MixerRegistry.standard.entries.map(\.name))
  func entriesAreComplete(_ name: String) throws {
    let entry = try #require(MixerRegistry.standard.entries.first { $0.name == name })
    let card = entry.card
    let texts = [card.summary, card.state, card.cost, card.weakness, card.source]
    #expect(texts.allSatisfy { !$0.isEmpty } && !entry.examples.isEmpty)
    for example in MixerExample.all where example.entry.name == name {
      let mixer = try #require(try example.subjects().first).mixer
      let names = try mixer.parameters().map(\.name)
      #expect(Set(names).count == names.count, "each parameter has its own name")
      var changed = 0
      var copy = mixer
      try copy.updateParameters { _, value in
        changed += 1
        value = try value * 2
      }
      #expect(changed == names.count)
    }
  }

  @Test func clientsAddTheirOwn() throws {
    let registry = MixerRegistry.standard.adding(Echo.self)
    #expect(MixerRegistry.standard.entries.count + 1 == registry.entries.count)
    #expect(registry.adding(Echo.self).entries.count == registry.entries.count)
    let mixer = try make(#"{"type": "echo", "gain": 3}"#, width: 5, in: registry)
    try Subject(name: "echo", mixer: mixer, width: 5).keepsCutLaw(length: 20, from: 0)
    #expect(throws: JSONError.self) { try make(#"{"type": "echo", "gian": 3}"#, in: registry) }
    #expect(throws: ConfigurationError.self) { try make(#"{"type": "echo"}"#) }
  }
}

/// A client's mixer: each output is the input before it, times a gain.
private struct Echo: RegisteredMixer {
  struct Options: Codable, Sendable { var gain: Float? }
  static let name = "echo"
  static let card = MixerCard(
    family: .convolution, summary: "the input before", state: "4 · width", cost: "width", weakness: "everything",
    source: "none")
  static let examples = ["{}"]
  static let optionKeys = ["gain"]

  var gain: Tensor
  let width: Int
  var laws: Laws { Laws(cut: .causal, merge: .none(reason: "an example without it")) }

  init(width: Int, options: Options, random: inout RandomSource) throws {
    self.width = width
    gain = try Tensor([options.gain ?? 1])
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws { try visitor.parameter("gain", &gain) }
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 4 * batch * width }

  func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: ["last": try Tensor.zeros([batch, 1, width])])
  }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let all = try Tensor.concatenated([state.tensor("last"), piece.values], axis: 1)
    state["last"] = try all.slice(piece.length..<piece.length + 1, axis: 1)
    state.position += piece.length
    return try all.slice(0..<piece.length, axis: 1) * gain
  }
}
