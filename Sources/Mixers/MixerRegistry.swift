import FermataFiles
import FermataTensors

/// The table of mixers that configurations can name: one line each. A value, so a client package adds its own
/// to a copy and passes it on; nothing global changes.
public struct MixerRegistry: Sendable {
  /// One mixer of the table.
  public struct Entry: Sendable {
    public let name: String
    public let card: MixerCard
    public let examples: [String]
    public let optionKeys: [String]
    let make: @Sendable (Int, JSONValue, inout RandomSource) throws -> any Mixer

    init<M: RegisteredMixer>(_ type: M.Type) {
      name = M.name
      card = M.card
      examples = M.examples
      optionKeys = M.optionKeys
      make = { width, json, random in
        let options = try StrictJSON.decode(
          M.Options.self, from: json, allowed: M.optionKeys, where: "mixer '\(M.name)'")
        return try M(width: width, options: options, random: &random)
      }
    }
  }

  /// Everything Fermata ships.
  public static let standard = MixerRegistry()
    .adding(SoftmaxAttention.self)
    .adding(GatedLinearAttention.self)
    .adding(LinearAttention.self)
    .adding(RetNet.self)
    .adding(LightningAttention.self)
    .adding(Based.self)
    .adding(DeltaRule.self)
    .adding(GatedDeltaRule.self)
    .adding(MixtureOfMemories.self)
    .adding(LSTM.self)
    .adding(GRU.self)
    .adding(SLSTM.self)
    .adding(Aaren.self)
    .adding(S4.self)
    .adding(S4D.self)
    .adding(S5.self)
    .adding(H3.self)
    .adding(Mamba.self)
    .adding(Mamba2.self)

  public private(set) var entries: [Entry] = []

  public init() {}

  /// A table with one more mixer; a second one of the same name replaces the first.
  public func adding<M: RegisteredMixer>(_ type: M.Type) -> MixerRegistry {
    var copy = self
    copy.entries.removeAll { $0.name == M.name }
    copy.entries.append(Entry(type))
    return copy
  }

  /// A mixer from its part of a config file: an object with the key "type" and the mixer's own keys.
  public func make(width: Int, configuration: JSONValue, random: inout RandomSource) throws -> any Mixer {
    guard case .object(var fields) = configuration, case .string(let name)? = fields["type"] else {
      throw ConfigurationError("mixer", "expected an object with a string \"type\", got \(configuration)")
    }
    guard let entry = entries.first(where: { $0.name == name }) else {
      throw ConfigurationError(
        "mixer", "there is no mixer '\(name)' (\(StrictJSON.unknown(name, among: entries.map(\.name))))")
    }
    fields["type"] = nil
    return try entry.make(width, .object(fields), &random)
  }
}

/// A setting that cannot be: where it stands and what is wrong with it.
public struct ConfigurationError: Error, Sendable, CustomStringConvertible {
  public var place: String
  public var problem: String

  public init(_ place: String, _ problem: String) {
    self.place = place
    self.problem = problem
  }

  public var description: String { "\(place): \(problem)" }
}
