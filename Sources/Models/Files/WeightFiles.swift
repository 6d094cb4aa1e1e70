import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors

/// The tensors of a model folder, mapped into memory: one model.safetensors, or shards listed in
/// model.safetensors.index.json.
public struct WeightFiles: Sendable {
  /// A tensor and the file it lies in.
  public struct Entry: Sendable {
    /// The file, which the tensor keeps mapped.
    public let file: SafetensorsFile
    /// Where it lies in the file.
    public let entry: SafetensorsFile.Entry
  }

  /// The folder, for messages.
  public let path: String
  /// All tensors by name.
  public let tensors: [String: Entry]

  private static let single = "model.safetensors"
  private static let index = "model.safetensors.index.json"

  /// Maps the files of a folder and checks their headers.
  /// - Throws: `FileError`, `JSONError`, or `ConfigurationError` for an index that contradicts its shards.
  public init(_ folder: String) throws {
    path = folder
    if PathQuery.status(folder + "/" + Self.single) == nil, PathQuery.status(folder + "/" + Self.index) != nil {
      tensors = try Self.shards(folder)
    } else {
      let file = try SafetensorsFile(folder + "/" + Self.single)
      tensors = Dictionary(uniqueKeysWithValues: file.entries.map { ($0.name, Entry(file: file, entry: $0)) })
    }
  }

  private static func shards(_ folder: String) throws -> [String: Entry] {
    let place = folder + "/" + index
    guard let map = try StrictJSON.read(place)["weight_map"]?.objectValue else {
      throw ConfigurationError(place, "it has no weight_map, an object from names of tensors to files")
    }
    var files: [String: SafetensorsFile] = [:]
    var tensors: [String: Entry] = [:]
    for (name, value) in map {
      guard let shard = value.stringValue, !shard.isEmpty, !shard.contains("/"), shard != ".." else {
        throw ConfigurationError(place, "the shard of '\(name)' must be the name of a file beside the index")
      }
      let file = try files[shard] ?? SafetensorsFile(folder + "/" + shard)
      files[shard] = file
      guard let entry = file.entry(name) else {
        throw ConfigurationError(place, "'\(name)' should be in \(shard), but is not there")
      }
      tensors[name] = Entry(file: file, entry: entry)
    }
    for (shard, file) in files {
      if let stray = file.entries.first(where: { tensors[$0.name]?.file !== file }) {
        throw ConfigurationError(place, "'\(stray.name)' is in \(shard), but the index does not say so")
      }
    }
    return tensors
  }

  /// Numbers in all tensors together.
  public var elements: Int { tensors.values.reduce(0) { $0 + $1.entry.count } }
  /// Bytes of all tensors together.
  public var byteCount: Int { tensors.values.reduce(0) { $0 + $1.entry.range.count } }
  /// The type that most bytes are of.
  public var mainType: SafetensorsType? {
    Dictionary(grouping: tensors.values, by: \.entry.type)
      .mapValues { $0.reduce(0) { $0 + $1.entry.range.count } }.max {
        ($0.value, $0.key.rawValue) < ($1.value, $1.key.rawValue)
      }?.key
  }
}

/// How names of tensors in checkpoints may differ from those of parameters.
public struct WeightNames: Sendable {
  /// What names may begin with or lack.
  public var prefix = ""
  /// Other names of tensors, and the name that counts.
  public var tied: [String: String] = [:]
  /// Parts of names that may be there for nothing.
  public var ignored: [String] = []

  /// Names of parameters as they are.
  public init() {}

  /// As the checkpoints of a family have them.
  public init(_ family: any ModelFamily.Type) {
    (prefix, tied, ignored) = (family.basePrefix, family.tied, family.ignored)
  }

  /// The names that a parameter's tensor may have, the likeliest first.
  func candidates(_ name: String) -> [String] {
    func spellings(_ name: String) -> [String] {
      guard !prefix.isEmpty else { return [name] }
      return [name, name.hasPrefix(prefix) ? String(name.dropFirst(prefix.count)) : prefix + name]
    }
    var names = ([name] + tied.filter { $0.value == name }.map(\.key).sorted()).flatMap(spellings)
    // Checkpoints converted from TensorFlow call the weights of layer norms gamma and beta.
    for (ending, older) in [(".weight", ".gamma"), (".bias", ".beta")] where name.hasSuffix("LayerNorm" + ending) {
      names += names.map { $0.dropLast(ending.count) + older }
    }
    return names
  }
}

extension WeightFiles {
  /// Gives every parameter of a module its tensor: all of them, of the right shape, and no others but those that may be there.
  ///
  /// Weights become of type `dtype`, coefficients f32 (`ParameterRole`). What is stored in that type stays where it lies in the mapped file.
  /// - Throws: `TensorError` that names a tensor which is missing, superfluous, or of another shape or kind.
  public func load(
    into module: inout some Module, weights dtype: DType, names: WeightNames = WeightNames()
  ) throws {
    var unused = Set(tensors.keys)
    var used: [String: Entry] = [:]
    // A name that a parameter of its own has is no second copy of another.
    let own = Set(try module.parameters().map(\.name))
    var names = names
    names.tied = names.tied.filter { !own.contains($0.key) }
    try module.updateParametersByRole { name, role, value in
      let stored = try find(name, names: names, shape: value.shape)
      value = try TensorFile.floating(stored.entry, of: stored.file, as: role == .weight ? dtype : .float32)
      unused.remove(stored.entry.name)
      used[name] = stored
    }
    for name in unused {
      let full = tensors[name] != nil && names.tied[name] == nil ? names.prefix + name : name
      guard let original = names.tied[full].flatMap({ used[$0] }) else { continue }
      try requireSame(name, original)
      unused.remove(name)
    }
    unused = unused.filter { name in !names.ignored.contains { name.contains($0) } }
    if let extra = unused.min() {
      throw TensorError(
        path, expected: "only tensors of this configuration",
        got: "'\(extra)'\(unused.count > 1 ? " and \(unused.count - 1) more" : "")",
        advice: "the weights belong to another configuration")
    }
  }

  /// The tensor of a parameter.
  public func find(_ name: String, names: WeightNames = WeightNames(), shape: [Int]) throws -> Entry {
    guard let found = names.candidates(name).lazy.compactMap({ tensors[$0] }).first else {
      let near = StrictJSON.nearest(name, in: Array(tensors.keys)).map { "; the nearest is '\($0)'" } ?? ""
      throw TensorError(
        path, expected: "a tensor '\(name)' of shape \(shape)", got: "none of that name\(near)",
        advice: "the weights belong to another configuration or the file is damaged")
    }
    guard found.entry.shape == shape else {
      throw TensorError(
        path, expected: "'\(name)' of shape \(shape) as config.json says", got: "\(found.entry.shape)")
    }
    return found
  }

  /// Refuses a second copy of a tensor that differs from the first, which config.json says are one.
  private func requireSame(_ name: String, _ original: Entry) throws {
    guard let copy = tensors[name] else { return }
    let isSame =
      copy.entry.type == original.entry.type && copy.entry.shape == original.entry.shape
      && copy.file.withBytes(of: copy.entry) { bytes in
        original.file.withBytes(of: original.entry) { other in
          bytes.count == other.count && (bytes.isEmpty || bytes.elementsEqual(other))
        }
      }
    guard isSame else {
      throw TensorError(
        path, expected: "'\(name)' equal to '\(original.entry.name)', as config.json ties them", got: "other values",
        advice: "set tie_word_embeddings to false if they are two")
    }
  }
}
