import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors
import Foundation

/// A model on disk: a folder of config.json, model.safetensors and generation_config.json.
public enum ModelFolder {
  /// Writes the folder whole or not at all. An older model there is replaced; a folder of anything else is left alone.
  /// - Throws: `FileError` when the folder holds files but no model.
  public static func save(_ model: LanguageModel, to path: String) throws {
    if PathQuery.isFolder(path) {
      let names = try PathQuery.names(in: path)
      guard names.isEmpty || names.contains("config.json") else {
        throw FileError(
          path: path, operation: "save the model in", kind: .wrongKind,
          reason: "the folder holds something that is not a model", advice: "choose another folder, or empty this one")
      }
    }
    try AtomicFolder.write(to: path) { folder in
      try write(model, into: folder)
    }
  }

  /// Writes the model's files into an existing folder.
  package static func write(_ model: LanguageModel, into folder: String) throws {
    try StrictJSON.write(model.configuration.json, to: folder + "/config.json")
    try StrictJSON.write(
      ["bos_token_id": .int(model.configuration.beginToken), "do_sample": true, "temperature": 0.8, "top_p": 0.95],
      to: folder + "/generation_config.json")
    try TensorFile.write(try model.parameters(), metadata: ["format": "pt"], to: folder + "/model.safetensors")
  }

  /// Reads config.json alone.
  public static func configuration(of path: String) throws -> ModelConfiguration {
    let json = try StrictJSON.read(AtomicFolder.current(path) + "/config.json")
    return try ModelConfiguration(json: json, place: path + "/config.json")
  }

  /// The model folder that a path means: the folder itself, or in the folder of a training run its best model, or else
  /// its last.
  /// - Throws: `FileError` when there is none.
  public static func resolve(_ path: String) throws -> String {
    func holds(_ folder: String, _ name: String) -> Bool {
      PathQuery.status(PathQuery.join(AtomicFolder.current(folder), name)) != nil
    }
    if holds(path, "model.safetensors") { return path }
    let checkpoints = ["best", "last"].map { PathQuery.join(path, $0) }
    if let found = checkpoints.first(where: { holds($0, "config.json") }) { return found }
    if holds(path, "config.json") { return path }
    let folder = AtomicFolder.current(path)
    guard PathQuery.status(folder) != nil else { throw FileError.system("read the model", path, code: ENOENT) }
    guard PathQuery.isFolder(folder) else { throw FileError.system("read the model", path, code: ENOTDIR) }
    throw FileError(
      path: path, operation: "read the model", kind: .missing, reason: "the folder holds no model",
      advice: "a model folder holds config.json and model.safetensors, a run folder best/ or last/")
  }

  /// Reads a model. The configuration's mixers come from the registry.
  public static func load(_ path: String, registry: MixerRegistry = .standard) throws -> LanguageModel {
    let folder = AtomicFolder.current(path)
    guard PathQuery.isFolder(folder) else {
      throw ConfigurationError(
        path, "there is no model folder here; expected a folder with config.json and model.safetensors")
    }
    let configuration = try configuration(of: path)
    // Every parameter comes from the file, so none is drawn.
    var model = try LanguageModel(configuration, registry: registry, random: .none)
    let file = try SafetensorsFile(folder + "/model.safetensors")
    try TensorFile.load(file, into: &model)
    return model
  }
}

/// Named tensors in a safetensors file.
public enum TensorFile {
  /// Writes tensors, whole or not at all.
  public static func write(
    _ tensors: [(name: String, value: Tensor)], metadata: [String: String] = [:], to path: String
  )
    throws
  {
    let ready = try tensors.map { ($0.name, try $0.value.detached.contiguous()) }
    try withExtendedLifetime(ready) {
      let entries = try ready.map { name, tensor in
        guard let type = SafetensorsType(rawValue: tensor.dtype.rawValue) else {
          throw TensorError("write", expected: "a type that safetensors knows", got: "\(tensor.dtype)")
        }
        return SafetensorsFile.Tensor(
          name: name, type: type, shape: tensor.shape,
          bytes: UnsafeRawBufferPointer(start: tensor.pointer, count: tensor.byteCount))
      }
      try SafetensorsFile.write(entries, metadata: metadata, to: path)
    }
  }

  /// One tensor of a file, read in place from the memory map.
  public static func tensor(_ entry: SafetensorsFile.Entry, of file: SafetensorsFile) throws -> Tensor {
    guard let dtype = DType(rawValue: entry.dtype) else {
      throw TensorError(
        file.path, expected: "tensors of type \(DType.allCases.map(\.rawValue).joined(separator: ", "))",
        got: "'\(entry.name)' of type \(entry.dtype)")
    }
    let bytes = file.bytes(of: entry)
    guard let base = bytes.baseAddress, bytes.count > 0 else { return try Tensor.zeros(entry.shape, dtype) }
    // Files from elsewhere may place numbers at odd addresses.
    if UInt(bitPattern: base) % UInt(dtype.byteCount) != 0 {
      let copy = try Tensor.zeros(entry.shape, dtype)
      copy.pointer.copyMemory(from: base, byteCount: bytes.count)
      return copy
    }
    let storage = Storage(borrowing: UnsafeMutableRawPointer(mutating: base), byteCount: bytes.count, owner: file)
    return Tensor(storage: storage, shape: entry.shape, dtype: dtype)
  }

  /// All tensors of a file, by name.
  public static func read(_ path: String) throws -> [String: Tensor] {
    let file = try SafetensorsFile(path)
    return try Dictionary(uniqueKeysWithValues: file.entries.map { ($0.name, try tensor($0, of: file)) })
  }

  /// Gives every parameter of a module its tensor from a file: all of them, of the right shape, and no others.
  public static func load(_ file: SafetensorsFile, into module: inout some Module) throws {
    var unused = Set(file.entries.map(\.name))
    try module.updateParameters { name, value in
      guard let entry = file.entry(name) else {
        throw TensorError(
          file.path, expected: "a tensor '\(name)' of shape \(value.shape)", got: "none of that name",
          advice: "the weights belong to another configuration or the file is damaged")
      }
      guard entry.shape == value.shape else {
        throw TensorError(
          file.path, expected: "'\(name)' of shape \(value.shape) as config.json says", got: "\(entry.shape)")
      }
      let stored = try tensor(entry, of: file)
      guard stored.dtype.isFloatingPoint else {
        throw TensorError(file.path, expected: "'\(name)' of a floating type", got: entry.dtype)
      }
      value = try stored.cast(to: .float32)
      unused.remove(name)
    }
    if let extra = unused.min() {
      throw TensorError(
        file.path, expected: "only tensors of this configuration",
        got: "'\(extra)'\(unused.count > 1 ? " and \(unused.count - 1) more" : "")",
        advice: "the weights belong to another configuration")
    }
  }
}
