import FermataFiles
import FermataTensors
import RealModule

/// How rotary frequencies were stretched for sequences longer than those a model was first trained on: one type a method.
public protocol RotaryScaling: Sendable {
  /// The method's name in configurations (`rope_type`).
  static var name: String { get }
  /// Whether frequencies depend on the length of the whole sequence. Such a model keeps the cut law only once that length
  /// is fixed, before its first token.
  static var dependsOnLength: Bool { get }

  /// - Throws: `ConfigurationError` for settings that are missing or make no sense.
  init(_ settings: RotarySettings) throws
  /// Radians a token for each pair of features, and what turned features are multiplied by, for a sequence of this length.
  func frequencies(length: Int) -> (values: [Double], amplitude: Double)
}

/// The table of scalings: one line each.
public enum RotaryScalings {
  public static let all: [any RotaryScaling.Type] = [
    DefaultScaling.self, LinearScaling.self, DynamicScaling.self, YarnScaling.self, LongRopeScaling.self,
    Llama3Scaling.self,
  ]

  /// The scaling that settings name.
  /// - Throws: `ConfigurationError` for a name that nobody knows, listing those that are.
  public static func make(_ settings: RotarySettings) throws -> any RotaryScaling {
    guard let type = all.first(where: { $0.name == settings.type }) else {
      throw settings.error(
        "rope_type '\(settings.type)' is unknown (\(StrictJSON.unknown(settings.type, among: all.map { $0.name })))")
    }
    return try type.init(settings)
  }
}

/// What a configuration says about rotary positions.
public struct RotarySettings: Sendable {
  /// Features that turn.
  public let width: Int
  public let base: Double
  public let type: String
  /// The longest sequence the model is meant for.
  public let maximumLength: Int
  private let parameters: [String: JSONValue]
  private let place: String

  /// - Throws: `ConfigurationError` for an odd width, a base of at most 1 or a length below 1.
  public init(
    width: Int, base: Double, type: String, maximumLength: Int, parameters: [String: JSONValue], place: String
  ) throws {
    self.width = width
    self.base = base
    self.type = type
    self.maximumLength = maximumLength
    self.parameters = parameters
    self.place = place
    guard width > 0, width % 2 == 0 else { throw error("an even number of features must turn, got \(width)") }
    guard base > 1, base.isFinite else { throw error("rope_theta must be above 1, got \(base)") }
    guard maximumLength > 0 else { throw error("max_position_embeddings must be at least 1, got \(maximumLength)") }
  }

  /// base^(-2i/width)
  var plain: [Double] { RotaryPositions.frequencies(width: width, base: base) }

  /// The length that the model was first trained on.
  func originalLength() throws -> Int {
    let length = try number("original_max_position_embeddings") ?? Double(maximumLength)
    guard let whole = Int(exactly: length), whole > 0 else {
      throw error("original_max_position_embeddings must be a whole number of at least 1, got \(length)")
    }
    return whole
  }

  /// A finite number, or nil where the configuration has none.
  func number(_ key: String) throws -> Double? {
    guard let value = parameters[key], value != .null else { return nil }
    guard let number = value.doubleValue, number.isFinite else {
      throw error("\(key) must be a number, got \(value.kind)")
    }
    return number
  }

  /// A number above 0 that must be there.
  func positive(_ key: String) throws -> Double {
    guard let number = try number(key) else { throw error("rope_type '\(type)' needs '\(key)'") }
    guard number > 0 else { throw error("\(key) must be above 0, got \(number)") }
    return number
  }

  func flag(_ key: String) throws -> Bool? {
    guard let value = parameters[key], value != .null else { return nil }
    guard let flag = value.boolValue else { throw error("\(key) must be true or false, got \(value.kind)") }
    return flag
  }

  /// A number above 0 for each pair of features.
  func factors(_ key: String) throws -> [Double] {
    let numbers = parameters[key]?.arrayValue?.compactMap(\.doubleValue) ?? []
    guard numbers.count == width / 2, numbers.allSatisfy({ $0 > 0 && $0.isFinite }) else {
      throw error("\(key) must be a list of \(width / 2) numbers above 0, one for each pair of features that turns")
    }
    return numbers
  }

  func error(_ problem: String) -> ConfigurationError { ConfigurationError(place, "rotary positions: \(problem)") }
}

/// No scaling: base^(-2i/width) at every length (Su et al. 2021).
public struct DefaultScaling: RotaryScaling {
  public static let name = "default"
  public static let dependsOnLength = false
  private let values: [Double]

  public init(_ settings: RotarySettings) throws { values = settings.plain }

  public func frequencies(length: Int) -> (values: [Double], amplitude: Double) { (values, 1) }
}
