import FermataFiles
import FermataMixers
import FermataTensors

/// A model's state in one safetensors file that generate, score and train all read:
/// tensors "layers.N.NAME", where there was a prediction of the next token also "logits", and metadata with the position and fingerprints of the configuration and of the weights.
public enum StateFile {
  private static let format = "fermata-state-2"
  private static let logitsName = "logits"

  /// Writes the state, whole or not at all.
  /// - Parameter logits: of the token that comes next, so that whoever loads the state need not read another first.
  public static func save(
    _ state: ModelState, logits: [Float]? = nil, of model: some CausalModel, to path: String
  ) throws {
    var tensors = state.layers.enumerated().flatMap { index, layer in
      layer.names.compactMap { name in layer[name].map { ("layers.\(index).\(name)", $0) } }
    }
    if let logits { tensors.append((logitsName, try Tensor(logits))) }
    try TensorFile.write(tensors, metadata: try metadata(state, model), to: path)
  }

  /// The logits of the token after a saved state; nil where none were saved.
  /// - Throws: `TensorError` for logits of another vocabulary.
  public static func logits(_ path: String, for model: some CausalModel) throws -> [Float]? {
    let file = try SafetensorsFile(path)
    guard let entry = file.entry(logitsName) else { return nil }
    let tensor = try TensorFile.tensor(entry, of: file)
    try require(
      tensor.dtype == .float32 && tensor.shape == [model.vocabularySize], "state \(path)",
      expected: "F32 logits [\(model.vocabularySize)]", got: "\(tensor)",
      advice: "load the state with the model that made it")
    return try tensor.floats()
  }

  static func metadata(_ state: ModelState, _ model: some CausalModel) throws -> [String: String] {
    [
      "format": format, "position": "\(state.position)", "layers": "\(state.layers.count)",
      "configuration": try fingerprint(model.document), "weights": try fingerprint(model),
      "positions": state.layers.map { "\($0.position)" }.joined(separator: ","),
      "sealed": state.layers.map { $0.isSealed ? "1" : "0" }.joined(separator: ","),
    ]
  }

  /// Reads a state for this model; anything that is not one of its states is refused.
  public static func load(_ path: String, for model: some CausalModel, batch: Int = 1) throws -> ModelState {
    let file = try SafetensorsFile(path)
    func refuse(_ expected: String, _ got: String) -> TensorError {
      TensorError("state \(path)", expected: expected, got: got, advice: "load the state with the model that made it")
    }
    guard file.metadata["format"] == format else {
      throw refuse("a state file (format \(format))", file.metadata["format"] ?? "none")
    }
    let wanted = try fingerprint(model.document)
    guard file.metadata["configuration"] == wanted else {
      throw refuse("a state of this model (\(wanted))", file.metadata["configuration"] ?? "none")
    }
    let weights = try fingerprint(model)
    guard file.metadata["weights"] == weights else {
      throw refuse("a state made with these weights (\(weights))", file.metadata["weights"] ?? "none")
    }
    let positions = (file.metadata["positions"] ?? "").split(separator: ",").compactMap { Int($0) }
    let sealed = (file.metadata["sealed"] ?? "").split(separator: ",")
    var state = try model.initialState(batch: batch)
    guard positions.count == state.layers.count, sealed.count == positions.count, Set(positions).count == 1,
      positions.allSatisfy({ (0...MixerState.largestPosition).contains($0) })
    else {
      throw refuse(
        "one position in 0...2^60 for all of \(state.layers.count) layers", file.metadata["positions"] ?? "none")
    }
    for layer in state.layers.indices {
      state.layers[layer].position = positions[layer]
      state.layers[layer].isSealed = sealed[layer] == "1"
    }
    for entry in file.entries where entry.name != logitsName {
      let parts = entry.name.split(separator: ".", maxSplits: 2)
      guard parts.count == 3, parts[0] == "layers", let layer = Int(parts[1]), state.layers.indices.contains(layer)
      else {
        throw refuse("tensors named layers.N.NAME", entry.name)
      }
      let tensor = try TensorFile.tensor(entry, of: file)
      if let initial = state.layers[layer][String(parts[2])],
        initial.shape != tensor.shape || initial.dtype != tensor.dtype
      {
        throw refuse("'\(entry.name)' of \(initial.dtype) \(initial.shape)", "\(tensor.dtype) \(tensor.shape)")
      }
      state.layers[layer][String(parts[2])] = tensor
    }
    return try state.validated(against: model, batch: batch, refuse)
  }

  /// A short number that two configurations share only when they are the same.
  static func fingerprint(_ document: JSONValue) throws -> String {
    var hash = Hash()
    hash.add(try document.text(namesNonFinite: true).utf8)
    return hash.text
  }

  /// A short number that tells the weights of one model from another's: names, and some evenly spaced values of each,
  /// rounded to bf16 so that a model and its bf16 copy have the same.
  static func fingerprint(_ model: some CausalModel) throws -> String {
    var hash = Hash()
    let samples = 64
    for (name, value) in try model.parameters() {
      hash.add(name.utf8)
      let flat = try value.detached.reshaped([-1])
      let step = max(1, flat.count / samples)
      let chosen = try stride(from: 0, to: flat.count, by: step).map { try flat.slice($0..<$0 + 1, axis: 0) }
      guard !chosen.isEmpty else { continue }
      try Tensor.concatenated(chosen, axis: 0).cast(to: .bfloat16).withBytes { hash.add($0) }
    }
    return hash.text
  }

  /// FNV-1a of 64 bits (Fowler, Noll, Vo).
  private struct Hash {
    private var value: UInt64 = 0xcbf2_9ce4_8422_2325
    var text: String { String(value, radix: 16) }

    mutating func add(_ bytes: some Sequence<UInt8>) {
      for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
    }
  }
}

extension ModelState {
  /// Runs one token on a copy: what the mixers make of a foreign state shows here, and not in the middle of a stream.
  fileprivate func validated(
    against model: some CausalModel, batch: Int, _ refuse: (String, String) -> TensorError
  ) throws -> ModelState {
    var probe = self
    do {
      _ = try model.hidden(Tensor.zeros([batch, 1], .int32), state: &probe)
    } catch let error as TensorError {
      throw refuse("tensors that this model's layers accept", error.description)
    }
    return self
  }
}
