import FermataFiles
import FermataTensors
import Foundation

extension ModelFolder {
  /// Writes a model folder that `transformers` reads as well: one model.safetensors with every tensor of the source under
  /// its own name, byte for byte unless another type is asked for, and the source's other files as they are.
  /// - Parameter dtype: the type that floating tensors get; nil: their own.
  /// - Throws: whatever opening the source throws, so that nothing damaged is passed on; `FileError` for the target.
  public static func export(_ source: String, to path: String, as dtype: DType? = nil) throws {
    _ = try open(source)
    let folder = AtomicFolder.current(source)
    let weights = try WeightFiles(folder)
    if PathQuery.isFolder(path), try !PathQuery.names(in: path).isEmpty {
      throw FileError(
        path: path, operation: "export the model to", kind: .wrongKind, reason: "the folder is not empty",
        advice: "choose another folder, or empty this one")
    }
    try AtomicFolder.write(to: path) { target in
      for name in try PathQuery.names(in: folder) where !isWeights(name) {
        let file = PathQuery.join(folder, name)
        guard let status = PathQuery.status(file), status.st_mode & S_IFMT == S_IFREG else { continue }
        try refuseLinkOutside(file, of: folder)
        let mapping = try FileMapping(file)
        try withExtendedLifetime(mapping) {
          try AtomicFile.write(Data(mapping.bytes), to: PathQuery.join(target, name))
        }
      }
      if let dtype { try declare(dtype, in: target + "/config.json") }
      let tensors = weights.tensors.sorted { $0.key < $1.key }.map { tensor($0.key, $0.value, as: dtype) }
      try SafetensorsFile.write(tensors, metadata: ["format": "pt"], to: target + "/model.safetensors")
    }
  }

  /// A link in a model that came from elsewhere could publish any file of ours. Those of the hub's cache lead from
  /// snapshots/REVISION to blobs beside it.
  private static func refuseLinkOutside(_ file: String, of folder: String) throws {
    var status = stat()
    guard lstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFLNK else { return }
    let target = URL(fileURLWithPath: file).resolvingSymlinksInPath().path
    let cache = URL(fileURLWithPath: folder).resolvingSymlinksInPath().deletingLastPathComponent()
      .deletingLastPathComponent().path
    guard cache.count > 1, target.hasPrefix(cache + "/") else {
      throw FileError(
        path: file, operation: "export", kind: .wrongKind, reason: "it is a link to \(target), outside the model",
        advice: "replace the link by the file, or remove it")
    }
  }

  /// Weights are written by themselves; those in other formats stay behind.
  private static func isWeights(_ name: String) -> Bool {
    let endings = [
      ".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".h5", ".gguf", ".onnx",
    ]
    return name.hasPrefix(".") || endings.contains { name.hasSuffix($0) }
  }

  private static func tensor(_ name: String, _ stored: WeightFiles.Entry, as dtype: DType?) -> SafetensorsFile.Tensor {
    let isFloating = [.float64, .float32, .float16, .bfloat16].contains(stored.entry.type)
    guard let dtype, isFloating, dtype.rawValue != stored.entry.dtype,
      let type = SafetensorsType(rawValue: dtype.rawValue)
    else {
      return SafetensorsFile.Tensor(name: name, type: stored.entry.type, shape: stored.entry.shape) { write in
        try stored.file.withBytes(of: stored.entry) { try write($0) }
      }
    }
    return SafetensorsFile.Tensor(name: name, type: type, shape: stored.entry.shape) { write in
      try TensorFile.floating(stored.entry, of: stored.file, as: dtype).withBytes { try write($0) }
    }
  }

  /// Says the new type where the configuration says one.
  private static func declare(_ dtype: DType, in path: String) throws {
    guard case .object(var members) = try StrictJSON.readForeign(path) else { return }
    for key in ["dtype", "torch_dtype"] where members[key] != nil {
      members[key] = dtype == .bfloat16 ? "bfloat16" : "float32"
    }
    try AtomicFile.write(
      Data((JSONValue.object(members).text(indented: true, namesNonFinite: true) + "\n").utf8), to: path)
  }
}
