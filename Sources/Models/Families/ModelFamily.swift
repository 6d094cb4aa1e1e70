import FermataFiles
import FermataMixers

/// A family of published models: how its config.json is read, what it is assembled from, and what its checkpoints hold.
/// One file each; the names of tensors live on the properties that they belong to.
public protocol ModelFamily: Sendable {
  /// `model_type` in configurations.
  static var modelType: String { get }
  /// The classes of `transformers` whose checkpoints can be read; the first is the one that ends with hidden states.
  static var architectures: [String] { get }
  /// What names of tensors begin with in the whole model, but not where the inner model was saved alone; empty: nothing.
  static var basePrefix: String { get }
  /// Tensors that checkpoints may hold a second time: the other name, and the one that counts. Copies that differ are refused.
  static var tied: [String: String] { get }
  /// Parts of names of tensors that checkpoints may hold and nobody needs: buffers, heads of other tasks.
  static var ignored: [String] { get }
  /// The model with parameters of the right shapes, for weights to be read into.
  /// - Throws: `ConfigurationError`
  static func model(_ configuration: FamilyConfiguration) throws -> any PretrainedModel
}

/// The table of families: one line each. A value, so a client package adds its own to a copy.
public struct FamilyRegistry: Sendable {
  /// Everything Fermata reads.
  public static let standard = FamilyRegistry([
    Llama.self, Mistral.self, Qwen2.self, Qwen3.self, Gemma2.self, GPT2.self, MambaFamily.self, Mamba2Family.self,
    Bert.self, Bart.self,
  ])

  /// All of them.
  public private(set) var families: [any ModelFamily.Type]

  /// A table of these families.
  public init(_ families: [any ModelFamily.Type] = []) { self.families = families }

  /// A table with one more family; a second one of the same type replaces the first.
  public func adding(_ family: any ModelFamily.Type) -> FamilyRegistry {
    FamilyRegistry(families.filter { $0.modelType != family.modelType } + [family])
  }

  /// The family that a configuration names.
  /// - Throws: `ConfigurationError` that lists the nearest and what is supported.
  public func family(of json: JSONValue, place: String) throws -> any ModelFamily.Type {
    guard let object = json.objectValue else {
      throw ConfigurationError(place, "expected an object, got \(json.kind)")
    }
    let known = families.map { $0.modelType } + [ModelConfiguration.modelType]
    guard let name = object["model_type"]?.stringValue else {
      throw ConfigurationError(
        place,
        "it has no model_type, a text that says what family the model is of (known: \(known.sorted().joined(separator: ", ")))"
      )
    }
    guard let family = families.first(where: { $0.modelType == name }) else {
      throw ConfigurationError(
        place, "model_type '\(name)' is not supported (\(StrictJSON.unknown(name, among: known)))")
    }
    return family
  }
}
