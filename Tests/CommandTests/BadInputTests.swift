import Foundation
import Testing

/// Whatever is wrong, there is one clear message and a code, and never a crash.
@Suite struct BadInputTests {
  /// Runs the tool and checks its refusal.
  private func expectRefusal(
    _ code: Int32, _ message: String, _ folder: TestFolder, environment: [String: String] = [:], _ script: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let result = try CommandLineTool.shell("\"$FERMATA\" " + script, environment: environment, in: folder)
    #expect(result.code == code, "\(result.errors)", sourceLocation: sourceLocation)
    #expect(result.errors.hasPrefix("fermata: "), "\(result.errors)", sourceLocation: sourceLocation)
    #expect(result.errors.contains(message), "\(result.errors)", sourceLocation: sourceLocation)
    // What the parser refuses shows the usage too; all else is one line.
    if code != 64 { #expect(result.errors.count { $0 == "\n" } == 1, sourceLocation: sourceLocation) }
    for word in ["Fatal error", "crashed", "Stack dump"] {
      #expect(!result.errors.contains(word), sourceLocation: sourceLocation)
    }
  }

  @Test func filesThatAreNotThere() throws {
    let folder = try TestFolder.withModel()
    try folder.write("", to: "empty")
    try expectRefusal(66, "nowhere", folder, "generate -m nowhere")
    try expectRefusal(66, "holds no model", folder, "generate -m .")
    try expectRefusal(66, "empty", folder, "info -m empty")
    try expectRefusal(66, "nowhere", folder, "generate -m model -f nowhere")
    try expectRefusal(66, "nowhere", folder, "score -m model nowhere")
    try expectRefusal(65, "no bytes", folder, "score -m model empty")
    try expectRefusal(65, "no bytes", folder, "generate -m model -f empty")
    try expectRefusal(65, "standard input holds no bytes", folder, "score -m model -")
    try expectRefusal(66, "directory", folder, "score -m model model")
    try expectRefusal(66, "nowhere", folder, "generate -m model -p x --load-state nowhere")
    try expectRefusal(74, "nowhere/s", folder, "generate -m model -n 1 --no-stats --save-state nowhere/s")
    try expectRefusal(74, "standard output", folder, "generate -m model -n 5 --no-stats --ignore-eos > /dev/full")
  }

  @Test(.enabled(if: geteuid() != 0, "root may read everything")) func filesThatMayNotBeRead() throws {
    let folder = try TestFolder.withModel()
    try folder.write("text", to: "secret")
    try expectRefusal(66, "ermission", folder, "score -m model secret < <(chmod 000 secret)")
  }

  /// A mistyped option is named with what was meant, even where the parser only misses another.
  @Test(arguments: [
    ("generate --modell model -p x", "--model"), ("generate -m model --promtp x", "--prompt"),
    ("score --mdel=model x", "--model"), ("tokenize --modle x", "--model"), ("train x --ouput y", "--output"),
    ("logits --model x --input y --out z", "--inputs"), ("embed --pooling-mode x --modl y", "--model"),
    ("export --model x --outputt y", "--output"), ("task parity --mixr lstm", "--mixer"),
    ("info --model-x y", "--model"),
    ("chat --toools x", "--tools"),
  ])
  func mistypedOptions(_ script: String, _ meant: String) throws {
    try expectRefusal(64, meant, TestFolder(), script)
  }

  @Test func damagedWeights() throws {
    let folder = try TestFolder.withModel()
    let path = folder.file("model/model.safetensors")
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    for size in [0, 4, 100, whole.count / 2, whole.count - 1] {
      try folder.write(whole.prefix(size), to: "model/model.safetensors")
      try expectRefusal(65, "model.safetensors", folder, "generate -m model")
    }
    try folder.write(
      [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F] + whole.dropFirst(8), to: "model/model.safetensors")
    try expectRefusal(65, "header", folder, "generate -m model")
    try FileManager.default.removeItem(atPath: path)
    try expectRefusal(66, "model.safetensors", folder, "generate -m model")
  }

  @Test func weightsThatAreNotNumbers() throws {
    let folder = try TestFolder.withModel()
    var bytes = try Data(contentsOf: URL(fileURLWithPath: folder.file("model/model.safetensors")))
    for index in (bytes.count - 20_000)..<bytes.count { bytes[index] = 0xFF }
    try folder.write(bytes, to: "model/model.safetensors")
    try expectRefusal(65, "damaged", folder, "generate -m model --no-stats")
    try folder.write("some text", to: "data")
    try expectRefusal(65, "damaged", folder, "score -m model data")
  }

  @Test(arguments: [
    ("\"hidden_size\"", "\"hiden_size\"", "hidden_size"),
    ("\"hidden_size\": 16", "\"hidden_size\": 17", "num_heads"),
    ("\"hidden_size\": 16", "\"hidden_size\": 32", "shape"),
    ("\"hidden_size\": 16", "\"hidden_size\": -1", "hidden_size"),
    ("\"num_heads\": 2", "\"num_heads\": 3", "num_heads"),
    ("\"num_heads\": 2", "\"num_head\": 2", "num_heads"),
    ("\"lstm\"", "\"lsmt\"", "did you mean 'lstm'"),
    ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4", "layers.3"),
    ("{", "", "config.json"),
  ])
  func editedConfigurations(_ old: String, _ new: String, _ message: String) throws {
    let folder = try TestFolder.withModel()
    try folder.edit("model/config.json", old, new)
    try expectRefusal(65, message, folder, "generate -m model")
  }

  @Test func aModelLargerThanMemoryIsRefusedBeforeItIsMade() throws {
    let folder = try TestFolder.withModel()
    try folder.edit("model/config.json", "\"hidden_size\": 16", "\"hidden_size\": 65536")
    try folder.edit("model/config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 999")
    try expectRefusal(71, "weights alone take", folder, "generate -m model")
  }

  @Test func statesOfOthers() throws {
    let folder = try TestFolder.withModel()
    try folder.saveModel("other", width: 32)
    _ = try CommandLineTool.run("generate", "-m", "other", "-n", "3", "--save-state", "s.state", in: folder)
    try expectRefusal(65, "state of this model", folder, "generate -m model -p x --load-state s.state")
    try expectRefusal(65, "state file", folder, "score -m model s.state --load-state model/model.safetensors")
    let whole = try Data(contentsOf: URL(fileURLWithPath: folder.file("s.state")))
    try folder.write(whole.dropLast(10), to: "s.state")
    try expectRefusal(65, "s.state", folder, "generate -m other -p x --load-state s.state")
    // Attention's part of a state is in the compute type.
    _ = try CommandLineTool.run(
      "generate", "-m", "other", "-n", "3", "--ignore-eos", "--dtype", "bf16", "--save-state", "b.state", in: folder)
    try expectRefusal(65, "b.state", folder, "generate -m other -p x --load-state b.state")
  }

  @Test func settingsThatCannotBe() throws {
    let folder = try TestFolder.withModel()
    try expectRefusal(64, "9999", folder, "generate -m model -t 9999")
    try expectRefusal(64, "--threads", folder, "score -m model -t 0 model/config.json")
    try expectRefusal(64, "FERMATA_THREADS", folder, environment: ["FERMATA_THREADS": "9999"], "processor")
    try expectRefusal(64, "FERMATA_THREADS", folder, environment: ["FERMATA_THREADS": "two"], "processor")
    try expectRefusal(64, "FERMATA_PATH", folder, environment: ["FERMATA_PATH": "avx9"], "processor")
    try expectRefusal(64, "portable", folder, "processor --path avx9")
    try expectRefusal(64, "Did you mean '--temp'?", folder, "generate -m model --tepm 1")
    try expectRefusal(64, "top-p", folder, "generate -m model --top-p 7")
    try expectRefusal(64, "temperature", folder, "generate -m model --temp nan")
    try expectRefusal(64, "-n must be", folder, "generate -m model -n -2")
    try expectRefusal(64, "one of them", folder, "generate -m model -p a -f model/config.json")
    try expectRefusal(64, "f16", folder, "generate -m model --dtype f16")
    try expectRefusal(64, "did you mean 'lstm'", folder, "mixers lsmt")
  }

  @Test func flagsBeatTheEnvironment() throws {
    let folder = try TestFolder()
    let result = try CommandLineTool.run(
      "processor", "-t", "1", "--path", "portable", environment: ["FERMATA_THREADS": "9999", "FERMATA_PATH": "avx9"],
      in: folder)
    #expect(result.code == 0 && result.text.contains("portable") && result.text.contains("threads   1 of"))
  }

  @Test(arguments: [
    "", "train", "generate", "score", "info", "tokenize", "detokenize", "mixers", "processor",
  ])
  func everyCommandExplainsItself(_ command: String) throws {
    let folder = try TestFolder()
    let result = try CommandLineTool.shell("\"$FERMATA\" \(command) --help", in: folder)
    #expect(result.code == 0 && result.text.lowercased().contains("examples:"))
    #expect(result.text.contains("fermata \(command.isEmpty ? "generate" : command)"))
  }

  @Test func infoAndMixersTellWhatThereIs() throws {
    let folder = try TestFolder.withModel()
    let info = try CommandLineTool.run("info", "-m", "model", in: folder)
    #expect(info.code == 0)
    for word in [
      "parameters", "gated_linear_attention", "softmax_attention", "lstm", "1.00M tokens", "model.safetensors",
    ] {
      #expect(info.text.contains(word))
    }
    let mixers = try CommandLineTool.run("mixers", in: folder)
    #expect(mixers.code == 0 && mixers.text.contains("lstm"))
    let one = try CommandLineTool.run("mixers", "softmax_attention", in: folder)
    #expect(one.code == 0 && one.text.contains("sliding_window"))
    let version = try CommandLineTool.run("--version", in: folder)
    #expect(version.code == 0 && version.text == "0.1.0\n")
  }
}
