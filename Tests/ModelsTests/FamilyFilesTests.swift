import FermataFiles
import FermataMixers
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataModels

/// Folders from elsewhere: types, shards, names, and everything that may be wrong with them.
@Suite struct FamilyFilesTests {
  private func logits(_ path: String, _ golden: FamilyGolden) throws -> Tensor {
    try ModelFolder.open(path).outputs(golden.inputs()).values
  }

  @Test func shardsAreOneModel() throws {
    let (golden, scratch) = (try FamilyGolden("llama"), try ScratchFolder())
    try golden.write(to: scratch.path)
    let expected = try logits(scratch.path, golden)
    let all = try golden.weights()
    var map: [String: JSONValue] = [:]
    for (shard, part) in [all.prefix(5), all.dropFirst(5)].enumerated() {
      let name = "model-0000\(shard + 1)-of-00002.safetensors"
      try TensorFile.write(Array(part), to: scratch.path + "/" + name)
      for (tensor, _) in part { map[tensor] = .string(name) }
    }
    try FileManager.default.removeItem(atPath: scratch.path + "/model.safetensors")
    func write(_ map: [String: JSONValue]) throws {
      try StrictJSON.write(
        ["metadata": ["total_size": 1], "weight_map": .object(map)],
        to: scratch.path + "/model.safetensors.index.json")
    }
    try write(map)
    try expectSameBits(logits(scratch.path, golden), expected)
    let outside = map.merging(["lm_head.weight": "../x.safetensors"]) { $1 }
    let elsewhere = map.merging(["lm_head.weight": "model-00002-of-00002.safetensors"]) { $1 }
    let stray = map.filter { $0.key != "lm_head.weight" }
    for wrong in [outside, elsewhere, stray] where wrong != map {
      try write(wrong)
      #expect(throws: (any Error).self) { try ModelFolder.open(scratch.path) }
    }
  }

  @Test func everyFloatingTypeIsRead() throws {
    let (golden, scratch) = (try FamilyGolden("llama"), try ScratchFolder())
    try golden.write(to: scratch.path)
    let expected = try logits(scratch.path, golden)
    let weights = try golden.weights()
    let doubles = try weights.map { name, value in
      let numbers = try value.floats().map(Double.init)
      return SafetensorsFile.Tensor(
        name: name, type: .float64, shape: value.shape, bytes: numbers.withUnsafeBytes { Data($0) })
    }
    try SafetensorsFile.write(doubles, to: scratch.path + "/model.safetensors")
    try expectSameBits(logits(scratch.path, golden), expected)
    #if arch(x86_64) && os(macOS)
    #else
      let halves = try weights.map { name, value in
        let numbers = try value.floats().map { Float16($0) }
        return SafetensorsFile.Tensor(
          name: name, type: .float16, shape: value.shape, bytes: numbers.withUnsafeBytes { Data($0) })
      }
      try SafetensorsFile.write(halves, to: scratch.path + "/model.safetensors")
      try expectClose(logits(scratch.path, golden), expected, Tolerance(ratio: 5e-3, floor: 1e-3), "f16")
      let special: [Float16] = [0, -0.0, 1, -2.5, 65504, 6e-8, -6e-8, .infinity, -.infinity, 0.333]
      try SafetensorsFile.write(
        [.init(name: "x", type: .float16, shape: [10], bytes: special.withUnsafeBytes { Data($0) })],
        to: scratch.path + "/half")
      let file = try SafetensorsFile(scratch.path + "/half")
      try onEveryPath { _ in
        let read = try TensorFile.floating(#require(file.entry("x")), of: file, as: .float32).floats()
        #expect(read == special.map { Float($0) })
      }
    #endif
    try golden.write(to: scratch.path, weights: weights.map { ($0, try $1.cast(to: .bfloat16)) })
    let model = try ModelFolder.open(scratch.path)
    #expect(model.computeType == .bfloat16)
    try expectClose(
      model.outputs(golden.inputs()).values, expected, Tolerance(ratio: 3e-2, floor: 1e-2), "bf16")
  }

  /// Weights that are stored in the type they are used in are not copied.
  @Test func weightsStayMapped() throws {
    let (golden, scratch) = (try FamilyGolden("llama"), try ScratchFolder())
    try golden.write(to: scratch.path)
    let (model, _, left) = try Memory.measure { try ModelFolder.open(scratch.path) }
    let matrices = try model.parameters().filter { $0.value.rank >= 2 }
    #expect(matrices.allSatisfy { $0.value.storage.isBorrowed })
    #expect(left < 4096)
  }

  @Test func namesWithAndWithoutPrefix() throws {
    let (golden, scratch) = (try FamilyGolden("gpt2"), try ScratchFolder())
    try golden.write(to: scratch.path)
    let expected = try logits(scratch.path, golden)
    let buffer = try Tensor.ones([1, 1, 4, 4])
    // As the first checkpoints of GPT-2 are: no prefix, buffers of masks, and the head a second time.
    var bare = try golden.weights().map { ($0.replacingOccurrences(of: "transformer.", with: ""), $1) }
    bare.append(("h.0.attn.bias", buffer))
    let table = try #require(bare.first { $0.0 == "wte.weight" }).1
    try golden.write(to: scratch.path, weights: bare + [("lm_head.weight", table)])
    try expectSameBits(logits(scratch.path, golden), expected)
    try golden.write(to: scratch.path, weights: bare + [("lm_head.weight", try table + 1)])
    #expect(throws: TensorError.self) { try ModelFolder.open(scratch.path) }
  }

  @Test func wrongTensorsAreNamed() throws {
    let (golden, scratch) = (try FamilyGolden("llama"), try ScratchFolder())
    let weights = try golden.weights()
    func message(_ weights: [(name: String, value: Tensor)], _ edits: [String: JSONValue] = [:]) throws -> String {
      try golden.write(to: scratch.path, changing: edits, weights: weights)
      do {
        _ = try ModelFolder.open(scratch.path)
        return "opened"
      } catch { return "\(error)" }
    }
    let name = "model.layers.1.self_attn.q_proj.weight"
    #expect(try message(weights.filter { $0.name != name }).contains(name))
    #expect(try message(weights + [("model.layers.7.extra", Tensor.ones([2]))]).contains("model.layers.7.extra"))
    let other = try weights.map { $0.name == name ? ($0.name, try Tensor.ones([3, 16])) : $0 }
    #expect(try message(other).contains("[3, 16]"))
    let integers = try weights.map { $0.name == name ? ($0.name, try $0.value.cast(to: .int32)) : $0 }
    #expect(try message(integers).contains("floating"))
    for (key, value) in [
      ("vocab_size", 40), ("hidden_size", 12), ("num_hidden_layers", 3), ("num_attention_heads", 3),
      ("num_key_value_heads", 3), ("num_hidden_layers", 1), ("intermediate_size", 25), ("head_dim", 5),
      ("hidden_size", .int(Int.max)), ("num_hidden_layers", .int(1 << 40)), ("num_attention_heads", .int(1 << 62)),
      ("vocab_size", -1), ("head_dim", .int(Int.max)), ("intermediate_size", 0), ("hidden_size", "16"),
      ("rms_norm_eps", -1), ("hidden_act", "gleu"), ("tie_word_embeddings", "no"), ("max_position_embeddings", 0),
      ("hidden_size", 16.5), ("rope_parameters", ["rope_type": "yran", "rope_theta": 10000]),
      ("rope_parameters", ["rope_type": "linear", "rope_theta": 10000]), ("rope_parameters", [1]),
      ("rope_parameters", ["rope_type": "longrope", "rope_theta": 10000, "short_factor": [1], "long_factor": [1, 1]]),
      ("rope_parameters", ["rope_type": "dynamic", "rope_theta": 10000, "factor": .double(.infinity)]),
      ("architectures", ["LlamaForSequenceClassification"]), ("model_type", "lama"), ("model_type", 3),
    ] as [(String, JSONValue)] {
      let text = try message(weights, [key: value])
      #expect(text != "opened", "\(key): \(value)")
      if key == "model_type", value == "lama" {
        #expect(text.contains("did you mean 'llama'?") && text.contains("bart"))
      }
      if key == "hidden_act" { #expect(text.contains("gelu")) }
    }
  }

  /// More layers than tensors end before any is made, though each number alone would fit the checkpoint.
  @Test(arguments: [
    ("llama", "num_hidden_layers"), ("gpt2", "n_layer"), ("mamba", "num_hidden_layers"), ("bert", "num_hidden_layers"),
    ("bart", "encoder_layers"), ("bart", "decoder_layers"),
  ])
  func layersFitTheTensors(_ name: String, _ key: String) throws {
    let (golden, scratch) = (try FamilyGolden(name), try ScratchFolder())
    try golden.write(to: scratch.path, changing: [key: 1000])
    let (error, peak, _) = Memory.measure {
      #expect(throws: ConfigurationError.self) { try ModelFolder.open(scratch.path) }
    }
    #expect(error?.description.contains("tensors") == true, "\(error?.description ?? "")")
    #expect(peak < 1 << 16)
  }

  /// A folder that is written again is the same, byte for byte, in every family.
  @Test(arguments: FamilyRegistry.standard.families.map { $0.modelType })
  func exportsAreTheSameBytes(_ name: String) throws {
    let (golden, scratch) = (try FamilyGolden(name), try ScratchFolder())
    try golden.write(to: scratch.path + "/a")
    try ModelFolder.export(scratch.path + "/a", to: scratch.path + "/b")
    let (old, new) = (
      try SafetensorsFile(scratch.path + "/a/model.safetensors"),
      try SafetensorsFile(scratch.path + "/b/model.safetensors")
    )
    #expect(old.entries.count == new.entries.count)
    for entry in old.entries {
      let copy = try new.require(entry.name, type: entry.type, shape: entry.shape)
      #expect(old.bytes(of: entry).elementsEqual(new.bytes(of: copy)), "\(entry.name)")
    }
    let configurations = try ["/a", "/b"].map {
      try Data(contentsOf: URL(fileURLWithPath: scratch.path + $0 + "/config.json"))
    }
    #expect(configurations[0] == configurations[1])
    try expectSameBits(logits(scratch.path + "/b", golden), logits(scratch.path + "/a", golden))
  }

  /// Both spellings of rotary settings, and numbers as Python writes them.
  @Test func olderConfigurations() throws {
    let (golden, scratch) = (try FamilyGolden("llama_linear"), try ScratchFolder())
    try golden.write(to: scratch.path)
    let expected = try logits(scratch.path, golden)
    try golden.write(
      to: scratch.path,
      changing: [
        "rope_parameters": .null, "rope_theta": 10000, "rope_scaling": ["type": "linear", "factor": 4.0],
        "unknown_key": 1,
      ])
    try expectSameBits(logits(scratch.path, golden), expected)
    let text = try String(contentsOfFile: scratch.path + "/config.json", encoding: .utf8)
    let python = text.replacingOccurrences(of: "\"unknown_key\":1", with: "\"unknown_key\":[NaN,-Infinity,Infinity]")
    #expect(text != python)
    try Data(python.utf8).write(to: URL(fileURLWithPath: scratch.path + "/config.json"))
    try expectSameBits(logits(scratch.path, golden), expected)
  }

  @Test func badInputsThrow() throws {
    let (golden, scratch) = (try FamilyGolden("gpt2"), try ScratchFolder())
    try golden.write(to: scratch.path)
    let model = try ModelFolder.open(scratch.path)
    func run(_ tokens: [Int32]) throws {
      _ = try model.outputs(ModelInputs(tokens: Tensor(tokens, shape: [1, tokens.count])))
    }
    try run([0, 40])
    #expect(throws: TensorError.self) { try run([41]) }
    #expect(throws: TensorError.self) { try run([-1]) }
    #expect(throws: TensorError.self) { try run([Int32](repeating: 1, count: 65)) }
    #expect(throws: TensorError.self) { try ModelInputs(tokens: Tensor.zeros([2], .int32)) }
    let bert = try FamilyGolden("bert")
    try bert.write(to: scratch.path)
    let encoder = try ModelFolder.open(scratch.path)
    #expect(!(encoder is any CausalModel))
    #expect(throws: TensorError.self) {
      try encoder.outputs(
        ModelInputs(tokens: Tensor.zeros([1, 3], .int32), types: Tensor.full([1, 3], 2, .int32)))
    }
  }
}
