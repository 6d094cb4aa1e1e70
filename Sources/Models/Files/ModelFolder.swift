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
    try WeightFiles(folder).load(into: &model, weights: .float32)
    return model
  }

  /// Reads a model of any family, ready to run in a type. Weights that are stored in it stay in the mapped files.
  /// - Parameter computeType: nil takes bf16 where most weights are stored so, and else f32.
  /// - Throws: `ConfigurationError`, `FileError` or `TensorError` for a folder that holds no such model, saying what is wrong.
  public static func open(
    _ path: String, as computeType: DType? = nil, families: FamilyRegistry = .standard,
    registry: MixerRegistry = .standard
  ) throws -> any PretrainedModel {
    let folder = AtomicFolder.current(path)
    let place = path + "/config.json"
    let json = try StrictJSON.readForeign(folder + "/config.json")
    let weights = try WeightFiles(folder)
    let type = computeType ?? (weights.mainType == .bfloat16 ? .bfloat16 : .float32)
    var model: any PretrainedModel
    if json["model_type"]?.stringValue == ModelConfiguration.modelType {
      let configuration = try ModelConfiguration(json: json, place: place)
      model = try LanguageModel(configuration, registry: registry, random: .none)
      try weights.load(into: &model, weights: type)
    } else {
      let family = try families.family(of: json, place: place)
      model = try family.model(
        FamilyConfiguration(json, family: family, place: place, weights: weights))
      try weights.load(into: &model, weights: type, names: WeightNames(family))
    }
    model.computeType = type
    return model
  }
}
