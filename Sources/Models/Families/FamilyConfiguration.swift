import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors

/// A config.json of another maker: read key by key, with the maker's defaults. Keys that nobody reads are left alone; a
/// value of the wrong kind, or one that cannot be, is an error that names its key.
public struct FamilyConfiguration: Sendable {
  /// The whole document.
  public let json: JSONValue
  /// The file, for messages.
  public let place: String
  /// Numbers that the checkpoint holds: no size of a model can be larger, so none that is wrong makes anything of its size.
  public let elements: Int
  private let object: [String: JSONValue]
  private let family: any ModelFamily.Type
  private let names: Set<String>

  /// - Throws: `ConfigurationError` for an architecture that the family does not read.
  public init(_ json: JSONValue, family: any ModelFamily.Type, place: String, weights: WeightFiles) throws {
    self.json = json
    self.place = place
    self.family = family
    elements = weights.elements
    names = Set(weights.tensors.keys)
    object = json.objectValue ?? [:]
    if let architecture, !family.architectures.contains(architecture) {
      throw error(
        "the architecture '\(architecture)' is not supported for model_type '\(family.modelType)' "
          + "(\(StrictJSON.unknown(architecture, among: family.architectures)))")
    }
  }

  /// The class that saved the model.
  public var architecture: String? { object["architectures"]?.arrayValue?.first?.stringValue }
  /// Whether only the inner model was saved, which ends with hidden states.
  public var isInnerModel: Bool { architecture != nil && architecture == family.architectures.first }

  /// Whether the checkpoint holds a tensor that some do without.
  public func holds(_ name: String) -> Bool { names.contains(name) || names.contains(family.basePrefix + name) }

  /// The error for something that is wrong in this configuration.
  public func error(_ problem: String) -> ConfigurationError { ConfigurationError(place, problem) }

  /// A value; nil where it is missing or null.
  public func value(_ key: String) -> JSONValue? {
    guard let value = object[key], value != .null else { return nil }
    return value
  }

  private func found<Value>(_ key: String, _ kind: String, _ read: (JSONValue) -> Value?) throws -> Value? {
    guard let value = value(key) else { return nil }
    guard let result = read(value) else { throw error("\(key) must be \(kind), got \(value.kind)") }
    return result
  }

  /// A whole number; nil where it is missing or null.
  /// - Throws: `ConfigurationError` for a value of another kind.
  public func integer(_ key: String) throws -> Int? { try found(key, "a whole number", \.intValue) }
  /// A number; nil where it is missing or null.
  /// - Throws: `ConfigurationError` for a value of another kind.
  public func number(_ key: String) throws -> Double? { try found(key, "a number", \.doubleValue) }
  /// A truth value; nil where it is missing or null.
  /// - Throws: `ConfigurationError` for a value of another kind.
  public func flag(_ key: String) throws -> Bool? { try found(key, "true or false", \.boolValue) }
  /// A text; nil where it is missing or null.
  /// - Throws: `ConfigurationError` for a value of another kind.
  public func text(_ key: String) throws -> String? { try found(key, "a text", \.stringValue) }

  /// A size of the model.
  /// - Throws: `ConfigurationError` when it is missing without a default, below 1, or larger than the checkpoint has numbers.
  public func size(_ key: String, default fallback: Int? = nil) throws -> Int {
    guard let size = try integer(key) ?? fallback else { throw error("the key '\(key)' is missing") }
    guard size >= 1, size <= elements else {
      throw error("\(key) must be at least 1 and fit the checkpoint's \(elements) numbers, got \(size)")
    }
    return size
  }

  /// A number of layers, each of which has a tensor of its own at least.
  /// - Throws: `ConfigurationError` as for a size, and when the checkpoint holds fewer tensors.
  public func layers(_ key: String, default fallback: Int? = nil) throws -> Int {
    let count = try size(key, default: fallback)
    guard count <= names.count else {
      throw error("\(key) is \(count), but the checkpoint holds \(names.count) tensors")
    }
    return count
  }

  /// The product of sizes, which must fit the checkpoint as well.
  public func product(_ sizes: Int..., as name: String) throws -> Int {
    var total = 1
    for size in sizes {
      let (next, overflow) = total.multipliedReportingOverflow(by: size)
      guard !overflow, next <= elements else {
        throw error("\(name) is larger than the checkpoint, which holds \(elements) numbers")
      }
      total = next
    }
    return total
  }

  /// A small positive number that norms add.
  public func epsilon(_ key: String, default fallback: Double) throws -> Float {
    let epsilon = try number(key) ?? fallback
    guard Float(epsilon) > 0, epsilon < 1 else { throw error("\(key) must be above 0 and below 1, got \(epsilon)") }
    return Float(epsilon)
  }

  /// A number above 0; nil where there is none.
  public func positive(_ key: String, default fallback: Double? = nil) throws -> Float? {
    // A null switches off what the maker's default would switch on.
    guard let number = object[key] == .null ? nil : try number(key) ?? fallback else { return nil }
    guard Float(number) > 0, Float(number).isFinite else { throw error("\(key) must be above 0, got \(number)") }
    return Float(number)
  }

  /// The length of a window; nil where the configuration says null.
  public func window(default fallback: Int) throws -> Int? {
    if object["sliding_window"] == .null { return nil }
    let window = try integer("sliding_window") ?? fallback
    guard (1...1 << 40).contains(window) else { throw error("sliding_window must be at least 1, got \(window)") }
    return window
  }

  /// An activation by the name that `transformers` gives it.
  /// - Throws: `ConfigurationError` for an unknown one, with the nearest.
  public func activation(_ key: String, default fallback: String) throws -> Activation {
    let name = try text(key) ?? fallback
    guard let activation = Activation(named: name) else {
      throw error("\(key) '\(name)' is unknown (\(StrictJSON.unknown(name, among: Activation.all.map(\.name))))")
    }
    return activation
  }

  /// Refuses a setting that changes what the model computes and that nobody here implements.
  public func refuse(_ key: String, unless expected: JSONValue, because reason: String) throws {
    guard let value = value(key), value != expected else { return }
    throw error("\(key) is \((try? value.text()) ?? value.kind), which is not supported: \(reason)")
  }

  /// Where the head's matrix comes from.
  func head(width: Int, vocabulary: Int, tiesByDefault: Bool, random: inout RandomSource) throws -> DecoderModel.Head {
    if isInnerModel { return .none }
    if try flag("tie_word_embeddings") ?? tiesByDefault { return .tied }
    return .own(try Linear(width, vocabulary, random: &random))
  }

  /// How rotary positions turn `headWidth` features: `rope_parameters`, or the older `rope_scaling` with `rope_theta`.
  func rotary(headWidth: Int, maximumLength: Int, base fallback: Double = 10_000) throws -> ScaledRotaryPositions {
    let keys = ["rope_parameters", "rope_scaling"].filter { value($0) != nil }
    var parameters: [String: JSONValue] = [:]
    for key in keys.reversed() {
      guard let given = value(key)?.objectValue else { throw error("\(key) must be an object") }
      parameters.merge(given) { $1 }
    }
    func setting<Value>(_ key: String, _ kind: String, _ read: (JSONValue) -> Value?) throws -> Value? {
      guard let value = parameters[key] ?? value(key), value != .null else { return nil }
      guard let result = read(value) else { throw error("\(key) must be \(kind), got \(value.kind)") }
      return result
    }
    for key in ["original_max_position_embeddings"] where value(key) != nil { parameters[key] = value(key) }
    let names = [try setting("rope_type", "a text", \.stringValue), parameters["type"]?.stringValue].compactMap { $0 }
    if let first = names.first, names.contains(where: { $0 != first }) {
      throw error("rotary positions are both '\(names.joined(separator: "' and '"))'")
    }
    let share = try setting("partial_rotary_factor", "a number", \.doubleValue) ?? 1
    guard share > 0, share <= 1 else {
      throw error("partial_rotary_factor must be above 0 and at most 1, got \(share)")
    }
    let settings = try RotarySettings(
      width: Int(Double(headWidth) * share), base: try setting("rope_theta", "a number", \.doubleValue) ?? fallback,
      type: names.first ?? "default", maximumLength: maximumLength, parameters: parameters, place: place)
    return try ScaledRotaryPositions(RotaryScalings.make(settings), length: maximumLength)
  }
}
