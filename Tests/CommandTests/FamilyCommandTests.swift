import FermataFiles
import FermataModels
import FermataTensors
import Foundation
import Testing

/// `logits` and `export` on folders as other programs save them.
@Suite struct FamilyCommandTests {
  /// A model folder and its golden file in a test folder.
  private func folder(_ name: String) throws -> (TestFolder, SafetensorsFile) {
    let goldens = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Goldens/families").path
    let (folder, file) = (try TestFolder(), try SafetensorsFile(goldens + "/\(name).safetensors"))
    try FileManager.default.createDirectory(atPath: folder.file("model"), withIntermediateDirectories: true)
    try folder.write((file.metadata["config"] ?? "").utf8, to: "model/config.json")
    let weights = try file.entries.filter { $0.name.hasPrefix("weights/") }
      .map { (String($0.name.dropFirst(8)), try TensorFile.tensor($0, of: file)) }
    try TensorFile.write(weights, to: folder.file("model/model.safetensors"))
    return (folder, file)
  }

  @Test func logitsAreTransformers() throws {
    for (name, output) in [("qwen3", "logits"), ("bert", "last_hidden_state"), ("bart", "logits")] {
      let (folder, file) = try folder(name)
      // Ids of 64 bits, as PyTorch has them.
      let inputs = try ["input_ids", "attention_mask", "token_type_ids", "decoder_input_ids"].compactMap { key in
        try file.entry(key).map { (key, try TensorFile.tensor($0, of: file).cast(to: .int64)) }
      }
      try TensorFile.write(inputs, to: folder.file("in.safetensors"))
      let result = try CommandLineTool.run(
        "logits", "--model", "model", "--inputs", "in.safetensors", "--out", "out.safetensors", in: folder)
      #expect(result.code == 0, "\(result.errors)")
      let found = try TensorFile.read(folder.file("out.safetensors"))
      #expect(Array(found.keys) == [output] && found[output]?.dtype == .float32)
      let expected = try TensorFile.tensor(#require(file.entry(output)), of: file).floats()
      let values = try #require(try found[output]?.floats())
      let mask = try inputs.first { $0.0 == "attention_mask" && output != "logits" }?.1.values(as: Int64.self)
      let width = expected.count / (mask?.count ?? expected.count)
      let differences = zip(values, expected).enumerated().filter { mask?[$0.offset / width] != 0 }
        .map { abs($0.element.0 - $0.element.1) }
      #expect((differences.max() ?? 1) < 1e-4)
    }
  }

  @Test func exportIsTheSameModel() throws {
    let (folder, _) = try folder("llama")
    try folder.write("{}".utf8, to: "model/tokenizer.json")
    let result = try CommandLineTool.shell(
      """
      set -e
      "$FERMATA" export -m model -o copy
      "$FERMATA" export -m copy -o half --dtype bf16
      "$FERMATA" export -m half -o again --dtype f32
      cmp model/config.json copy/config.json; cmp model/tokenizer.json copy/tokenizer.json
      grep -q '"dtype": "bfloat16"' half/config.json
      ! "$FERMATA" export -m model -o copy 2> refused
      """, in: folder)
    #expect(result.code == 0, "\(result.errors)")
    let (old, new) = (
      try SafetensorsFile(folder.file("model/model.safetensors")),
      try SafetensorsFile(folder.file("copy/model.safetensors"))
    )
    #expect(Set(old.entries.map(\.name)) == Set(new.entries.map(\.name)))
    for entry in old.entries {
      let copy = try new.require(entry.name, type: entry.type, shape: entry.shape)
      #expect(old.bytes(of: entry).elementsEqual(new.bytes(of: copy)))
    }
    let half = try SafetensorsFile(folder.file("half/model.safetensors"))
    #expect(half.entries.allSatisfy { $0.type == .bfloat16 })
    #expect(try SafetensorsFile(folder.file("again/model.safetensors")).entries.allSatisfy { $0.type == .float32 })
  }

  /// Links inside the model's own cache are what the hub's folders are made of; those that lead elsewhere are not followed.
  @Test func exportFollowsNoLinkOutside() throws {
    let (folder, _) = try folder("llama")
    try folder.write("secret".utf8, to: "elsewhere")
    let result = try CommandLineTool.shell(
      """
      mkdir -p cache/blobs cache/snapshots && mv model cache/snapshots/1
      mv cache/snapshots/1/config.json cache/blobs/c && ln -s ../../blobs/c cache/snapshots/1/config.json
      "$FERMATA" export -m cache/snapshots/1 -o copy && cmp cache/blobs/c copy/config.json && test ! -L copy/config.json || exit 1
      ln -s ../../../elsewhere cache/snapshots/1/tokenizer.json
      "$FERMATA" export -m cache/snapshots/1 -o other && exit 2
      ls other 2> /dev/null && exit 3
      exit 0
      """, in: folder)
    #expect(result.code == 0 && result.errors.contains("outside the model"), "\(result.code) \(result.errors)")
  }

  @Test func badFoldersAndInputsAreRefused() throws {
    let (folder, _) = try folder("gpt2")
    try TensorFile.write([("input_ids", Tensor.zeros([1, 2], .int32))], to: folder.file("in"))
    try TensorFile.write([("ids", Tensor.zeros([1, 2], .int32))], to: folder.file("nothing"))
    try TensorFile.write([("input_ids", Tensor.full([1, 2], 1e15, .int64))], to: folder.file("huge"))
    func code(_ arguments: String...) throws -> Int32 {
      let result = try CommandLineTool.shell("exec \"$FERMATA\" \"$@\"", arguments, in: folder)
      #expect(result.errors.hasPrefix("fermata: ") && result.errors.split(separator: "\n").count == 1)
      return result.code
    }
    #expect(try code("logits", "-m", "model", "--inputs", "nothing", "--out", "o") == 65)
    #expect(try code("logits", "-m", "model", "--inputs", "huge", "--out", "o") == 65)
    #expect(try code("logits", "-m", "model", "--inputs", "missing", "--out", "o") == 66)
    #expect(try code("logits", "-m", "nowhere", "--inputs", "in", "--out", "o") == 66)
    #expect(try code("generate", "-m", "model", "-p", "x") != 0)
    try folder.write(#"{"model_type": "gpt3"}"#.utf8, to: "model/config.json")
    let unknown = try CommandLineTool.run("logits", "-m", "model", "--inputs", "in", "--out", "o", in: folder)
    #expect(unknown.code == 65 && unknown.errors.contains("did you mean 'gpt2'?"))
  }

  @Test func infoTellsTheFamily() throws {
    let words = ["gemma2": "cut         anywhere", "bert": "family      bert", "gpt2": "64 tokens"]
    for (name, word) in words {
      let (folder, _) = try folder(name)
      let result = try CommandLineTool.run("info", "-m", "model", in: folder)
      #expect(result.code == 0, "\(result.errors)")
      #expect(result.text.contains(word), "\(result.text)")
    }
  }
}
