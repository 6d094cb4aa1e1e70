import FermataFiles
import FermataModels
import FermataTensors
import Foundation

/// Loaders of weights, configurations and states.
enum ModelTargets {
  /// A family's golden file: a configuration, weights, and tokens to run.
  struct Family {
    let name: String
    let config: String
    let weights: [UInt8]
    let inputs: ModelInputs

    init(_ name: String, in goldens: String, scratch: Folder) throws {
      self.name = name
      let golden = try SafetensorsFile(goldens + "/families/\(name).safetensors")
      let tensors = try golden.entries.filter { $0.name.hasPrefix("weights/") }.map {
        (name: String($0.name.dropFirst(8)), value: try TensorFile.tensor($0, of: golden))
      }
      func tokens(_ name: String) throws -> Tensor? {
        // Two tokens are enough to run every part of a model.
        try golden.entry(name).map { try TensorFile.tensor($0, of: golden).slice(0..<2, axis: 1).contiguous() }
      }
      try TensorFile.write(tensors, to: scratch.file("weights"))
      weights = try Array(Data(contentsOf: URL(fileURLWithPath: scratch.file("weights"))))
      config = golden.metadata["config"] ?? ""
      inputs = try ModelInputs(
        tokens: tokens("input_ids") ?? Tensor([Int32(0)], shape: [1, 1]), decoderTokens: tokens("decoder_input_ids"))
    }
  }

  static let familyNames = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gpt2", "mamba", "mamba2", "bert", "bart"]

  private static func run(_ folder: Folder, _ family: Family) throws {
    _ = try ModelFolder.open(folder.path).outputs(family.inputs)
  }

  /// Damaged config.json beside sound weights.
  static func configurations(_ families: [Family], _ place: Folder) throws -> Target {
    let folders = try families.map { family in
      let folder = try place.folder(family.name)
      try folder.write(family.weights, to: "model.safetensors")
      return folder
    }
    let scalings = [
      #"{"rope_type":"dynamic","factor":2.0}"#, #"{"type":"yarn","factor":0.1}"#, #"{"rope_type":"longrope"}"#,
      #"{"rope_type":"llama3","factor":1e300,"low_freq_factor":1,"high_freq_factor":2}"#, #""rope_scaling""#,
      #""sliding_window""#, #""head_dim""#, #""torch_dtype""#, #""sliding_attention""#, #""gelu_new""#,
    ].map { Array($0.utf8) }
    return Target(
      "config.json", families.map { Seed(text: $0.config) }, dictionary: Mutator.words + scalings,
      beside: families.map(\.weights.count).max() ?? 0
    ) { file, seed, _ in
      try folders[seed].write(file, to: "config.json")
      try run(folders[seed], families[seed])
    }
  }

  /// Damaged weights beside a sound config.json.
  static func weights(_ families: [Family], _ place: Folder) throws -> Target {
    let folders = try families.map { family in
      let folder = try place.folder(family.name)
      try folder.write(Array(family.config.utf8), to: "config.json")
      return folder
    }
    return Target("weights", families.map { safetensors($0.weights) }, dictionary: words) { file, seed, _ in
      try folders[seed].write(file, to: "model.safetensors")
      try run(folders[seed], families[seed])
    }
  }

  /// A damaged index beside two sound shards.
  static func index(_ family: Family, _ place: Folder) throws -> Target {
    try place.write(Array(family.config.utf8), to: "config.json")
    try place.write(family.weights, to: "weights")
    let file = try SafetensorsFile(place.file("weights"))
    var map: [String: JSONValue] = [:]
    let middle = file.entries.count / 2
    for (number, half) in [file.entries[..<middle], file.entries[middle...]].enumerated() {
      let name = "model-0000\(number + 1)-of-00002.safetensors"
      try TensorFile.write(half.map { ($0.name, try TensorFile.tensor($0, of: file)) }, to: place.file(name))
      for entry in half { map[entry.name] = .string(name) }
    }
    let index = try JSONValue.object(["metadata": ["total_size": 1], "weight_map": .object(map)]).text()
    let further = [#""../model.safetensors""#, #""config.json""#, #"".""#].map { Array($0.utf8) }
    return Target(
      "index", [Seed(text: index)], dictionary: Mutator.words + further, beside: family.weights.count
    ) { file, _, place in
      try place.write(file, to: "model.safetensors.index.json")
      try run(place, family)
    }
  }

  /// Damaged files of tensors, each read on its own.
  static let safetensors = Target("safetensors", SafetensorsSeeds.all, dictionary: words) { file, _, place in
    let file = try SafetensorsFile(place.write(file, to: "file.safetensors"))
    var sum = 0
    for entry in file.entries {
      file.withBytes(of: entry) { sum &+= $0.reduce(0) { $0 &+ Int($1) } }
      if let tensor = try? TensorFile.floating(entry, of: file, as: .bfloat16) { sum &+= tensor.count }
    }
  }

  /// Damaged states of a model.
  static func state(_ family: Family, _ place: Folder) throws -> Target {
    let folder = try place.folder("model")
    try folder.write(Array(family.config.utf8), to: "config.json")
    try folder.write(family.weights, to: "model.safetensors")
    guard let model = try ModelFolder.open(folder.path) as? any CausalModel else {
      throw TensorError("fuzz", expected: "a causal model", got: family.name)
    }
    func target(_ model: some CausalModel) throws -> Target {
      var state = try model.initialState(batch: 1)
      _ = try model.hidden(Tensor([Int32(1), 2, 3], shape: [1, 3]), state: &state)
      try StateFile.save(state, of: model, to: place.file("sound"))
      let sound = try Array(Data(contentsOf: URL(fileURLWithPath: place.file("sound"))))
      return Target("state", [safetensors(sound)], dictionary: words, beside: family.weights.count) { file, _, place in
        _ = try StateFile.load(place.write(file, to: "state"), for: model)
      }
    }
    return try target(model)
  }

  private static let words =
    Mutator.words
    + ["\"F32\"", "\"F16\"", "\"BF16\"", "\"F64\"", "\"U8\"", "\"BOOL\"", "\"I64\""].map { Array($0.utf8) }

  /// The words of a file's header, and its data as one part.
  private static func safetensors(_ file: [UInt8]) -> Seed {
    let size = file[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
    return SafetensorsSeeds.seed(Array(file[8..<8 + size]), data: Array(file[(8 + size)...]))
  }
}

/// Small safetensors files.
enum SafetensorsSeeds {
  static let all: [Seed] = [
    (
      #"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[16,24]}}"#,
      24
    ),
    (
      #"{"x":{"dtype":"F16","shape":[3],"data_offsets":[0,6]},"y":{"dtype":"I64","shape":[],"data_offsets":[6,14]},"z":{"dtype":"F64","shape":[1,1,1],"data_offsets":[14,22]}}"#,
      22
    ),
    (
      #"{"e":{"dtype":"U8","shape":[0,5],"data_offsets":[0,0]},"f":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#,
      2
    ),
    ("{}", 0),
  ].map { header, size in seed(Array(header.utf8), data: (0..<size).map { UInt8($0) }) }

  /// The length in front is that of the header as it has become.
  static func seed(_ header: [UInt8], data: [UInt8]) -> Seed {
    let words = Seed.words(header)
    return Seed(words + [data], head: words.count) { parts in
      let header = Array(parts.dropLast().joined())
      return (0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) } + header + (parts.last ?? [])
    }
  }
}
