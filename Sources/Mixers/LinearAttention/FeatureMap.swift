import FermataLayers
import FermataTensors

/// What linear attention applies to queries and keys, feature by feature, before their product: φ(q) · φ(k) stands for e^{q·k}.
public struct FeatureMap: Sendable {
  /// Its name in config files.
  public let name: String
  /// Whether φ is never negative, so that sums of products can normalise.
  public let isPositive: Bool
  let apply: @Sendable (Tensor) throws -> Tensor

  public func callAsFunction(_ x: Tensor) throws -> Tensor { try apply(x) }

  /// The maps that configurations can name.
  public static let all = [
    eluPlusOne, FeatureMap(name: "relu", isPositive: true) { try $0.relu() },
    FeatureMap(name: "silu", isPositive: false) { try $0.silu() }, identity,
  ]

  /// x + 1 above zero and e^x below (Katharopoulos et al. 2020).
  public static let eluPlusOne = FeatureMap(name: "elu_plus_one", isPositive: true) { try $0.eluPlusOne() }

  public static let identity = FeatureMap(name: "identity", isPositive: false) { $0 }

  /// `taylorFeatures`, of which there are more than of what they are made from.
  static let taylor = FeatureMap(name: "taylor", isPositive: true) { try taylorFeatures($0) }

  /// The map of a name.
  /// - Throws: `ConfigurationError` when there is none.
  static func named(_ name: String, in mixer: String) throws -> FeatureMap {
    guard let map = all.first(where: { $0.name == name }) else {
      let known = all.map(\.name).joined(separator: ", ")
      throw ConfigurationError("mixer '\(mixer)'", "there is no feature_map '\(name)' (known: \(known))")
    }
    return map
  }
}

/// Feature maps before a memory in which nothing decays: how plain linear attention writes.
public struct FeatureUpdate: MemoryRule {
  public let map: FeatureMap

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {}

  public func complete(_ tokens: inout MatrixTokens, x: Tensor, columns: Tensor, positions: Tensor?) throws {
    tokens.query = try map(tokens.query)
    tokens.key = try map(tokens.key)
  }
}
