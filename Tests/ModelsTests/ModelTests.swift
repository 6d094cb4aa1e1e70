import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataModels

@Suite struct ModelTests {
  static let mixers: [JSONValue] = [
    ["type": "gated_linear_attention", "num_heads": 2], ["type": "lstm"],
    ["type": "softmax_attention", "num_attention_heads": 2, "sliding_window": 5],
  ]

  private func model(_ dtype: DType = .float32) throws -> LanguageModel {
    var model = try LanguageModel(
      ModelConfiguration(width: 16, layers: 3, feedForwardWidth: 24, mixers: Self.mixers), seed: 4)
    model.computeType = dtype
    return model
  }

  private func folder() throws -> String {
    let path = NSTemporaryDirectory() + "fermata-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }

  /// The cut law of a whole model: pieces and single tokens give the logits of the whole.
  @Test(arguments: [DType.float32, .bfloat16]) func piecesGiveTheLogitsOfTheWhole(_ dtype: DType) throws {
    let model = try model(dtype)
    var random = TestRandom()
    let tokens = try Tensor((0..<40).map { _ in Int32(random.int(0...255)) }, shape: [2, 20])
    var state = try model.initialState(batch: 2)
    let whole = try model.logits(tokens, state: &state).floats()
    for cuts in [[0, 7, 8, 20], Array(0...20)] {
      var carried = try model.initialState(batch: 2)
      let parts = try zip(cuts, cuts.dropFirst()).map { start, end in
        try model.logits(tokens.slice(start..<end, axis: 1).contiguous(), state: &carried)
      }
      let joined = try Tensor.concatenated(parts, axis: 1).floats()
      let error = zip(joined, whole).reduce(0.0) { $0 + pow(Double($1.0 - $1.1), 2) }.squareRoot()
      let norm = whole.reduce(0.0) { $0 + pow(Double($1), 2) }.squareRoot()
      #expect(error <= (dtype == .float32 ? 1e-5 : 2e-2) * norm, "\(dtype), \(cuts.count - 1) pieces: \(error / norm)")
      #expect(carried.position == 20)
    }
  }

  @Test func savesAndLoadsWhole() throws {
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let model = try model()
    try ModelFolder.save(model, to: folder + "/m")
    let loaded = try ModelFolder.load(folder + "/m")
    #expect(loaded.configuration == model.configuration)
    for ((name, a), (other, b)) in zip(try model.parameters(), try loaded.parameters()) {
      #expect(name == other)
      #expect(try a.floats() == b.floats())
    }
  }

  @Test func statesGoThroughAFile() throws {
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let model = try model()
    var state = try model.initialState(batch: 1)
    _ = try model.logits(Tensor((0..<12).map { Int32($0) }, shape: [1, 12]), state: &state)
    try StateFile.save(state, of: model, to: folder + "/s.safetensors")
    var loaded = try StateFile.load(folder + "/s.safetensors", for: model)
    let next = try Tensor([Int32(65)], shape: [1, 1])
    #expect(loaded.position == 12)
    #expect(try model.logits(next, state: &loaded).floats() == model.logits(next, state: &state).floats())
    let other = try LanguageModel(ModelConfiguration(width: 16, layers: 3, feedForwardWidth: 32, mixers: Self.mixers))
    #expect(throws: TensorError.self) { try StateFile.load(folder + "/s.safetensors", for: other) }
    #expect(throws: (any Error).self) { try StateFile.load(folder + "/s.safetensors", for: model, batch: 2) }
  }

  @Test(arguments: [
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "hiden": 1}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstn"}]}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "gated_linear_attention", "num_heads": 3}]}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "softmax_attention", "num_attention_heads": 0}]}"#,
    #"{"hidden_size": -1, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}]}"#,
    #"{"hidden_size": 9223372036854775807, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}]}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": []}"#,
    #"{"model_type": "llama", "hidden_size": 16}"#,
    #"{"hidden_size": "16", "num_hidden_layers": 1, "mixers": [{"type": "lstm"}]}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "softmax_attention", "num_attention_heads": 2, "sliding_window": -4}]}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "rms_norm_eps": "big"}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "tie_word_embeddings": "false"}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "tokenizer": 7}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "tokenizer": "words"}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "model_type": 5}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "vocab_size": null}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "vocab_size": 256}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "bos_token_id": 255}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "bos_token_id": 1.5}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": [{"type": "lstm"}], "architectures": 1}"#,
    #"{"hidden_size": 16, "num_hidden_layers": 1, "mixers": {"type": "lstm"}}"#,
    #"[]"#,
  ]) func impossibleConfigurationsAreRefused(_ text: String) throws {
    #expect(throws: (any Error).self) {
      let json = try StrictJSON.parse(Data(text.utf8), place: "config.json")
      _ = try LanguageModel(ModelConfiguration(json: json))
    }
  }
}
