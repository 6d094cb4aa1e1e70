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
    let make: @Sendable (Int, JSONValue, MixerRegistry, inout RandomSource) throws -> any Mixer
    /// The memory and the rule of mixers that have one, for mixtures of memories.
    let memoryKind: (@Sendable (_ width: Int, JSONValue) throws -> MemoryKind)?

    init<M: RegisteredMixer>(
      _ type: M.Type,
      make: @escaping @Sendable (Int, M.Options, MixerRegistry, inout RandomSource) throws -> M
    ) {
      name = M.name
      card = M.card
      examples = M.examples
      optionKeys = M.optionKeys
      self.make = { width, json, registry, random in
        try make(width, Self.options(type, json), registry, &random)
      }
      memoryKind = (type as? any MatrixMixer.Type).map { Self.memoryKind(of: $0) }
    }

    private static func options<M: RegisteredMixer>(_ type: M.Type, _ json: JSONValue) throws -> M.Options {
      try StrictJSON.decode(M.Options.self, from: json, allowed: M.optionKeys, where: "mixer '\(M.name)'")
    }

    private static func memoryKind<M: MatrixMixer>(
      of type: M.Type
    ) -> @Sendable (Int, JSONValue) throws -> MemoryKind {
      { width, json in
        let options = try Self.options(type, json)
        let memory = try M.memory(width: width, options: options)
        return MemoryKind(memory: memory) { try M.rule(memory, width: width, options: options, random: &$0) }
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
    adding(Entry(type) { width, options, _, random in try M(width: width, options: options, random: &random) })
  }

  /// The same for a mixer made of others.
  public func adding<M: CompositeMixer>(_ type: M.Type) -> MixerRegistry {
    adding(
      Entry(type) { width, options, registry, random in
        try M(width: width, options: options, registry: registry, random: &random)
      })
  }

  private func adding(_ entry: Entry) -> MixerRegistry {
    var copy = self
    copy.entries.removeAll { $0.name == entry.name }
    copy.entries.append(entry)
    return copy
  }

  /// A mixer from its part of a config file: an object with the key "type" and the mixer's own keys.
  public func make(width: Int, configuration: JSONValue, random: inout RandomSource) throws -> any Mixer {
    let (name, fields) = try Self.typed(configuration)
    guard let entry = entries.first(where: { $0.name == name }) else {
      throw ConfigurationError(
        "mixer", "there is no mixer '\(name)' (\(StrictJSON.unknown(name, among: entries.map(\.name))))")
    }
    return try entry.make(width, .object(fields), self, &random)
  }

  /// The memory and the rule of a mixer, from the same part of a config file.
  /// - Throws: `ConfigurationError` for mixers whose state is no matrix memory.
  func memoryKind(width: Int, configuration: JSONValue) throws -> MemoryKind {
    let (name, fields) = try Self.typed(configuration)
    guard let kind = entries.first(where: { $0.name == name })?.memoryKind else {
      let known = entries.filter { $0.memoryKind != nil }.map(\.name)
      throw ConfigurationError("memory", "there is no memory '\(name)' (\(StrictJSON.unknown(name, among: known)))")
    }
    return try kind(width, .object(fields))
  }

  private static func typed(_ configuration: JSONValue) throws -> (name: String, fields: [String: JSONValue]) {
    guard case .object(var fields) = configuration, case .string(let name)? = fields["type"] else {
      throw ConfigurationError("mixer", "expected an object with a string \"type\", got \(configuration)")
    }
    fields["type"] = nil
    return (name, fields)
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
