import ArgumentParser
import FermataFiles
import FermataMixers
import FermataReports
import FermataTensors

/// What ways of mixing a sequence there are.
struct MixersCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mixers",
    abstract: "Ways of mixing a sequence that a model's configuration can name.",
    discussion: """
      Examples:
        fermata mixers                         all of them
        fermata mixers gated_linear_attention  one of them, with its settings and a configuration
      """)

  @Argument(help: "A mixer to explain.")
  var name: String?

  func run() throws {
    let output = StandardOutput()
    try output.write(name.map { try Self.explanation($0) } ?? Self.table())
    try output.flush()
  }

  /// Width at which the list measures states.
  private static let width = 256

  private static func table() throws -> String {
    var rows = [["mixer", "kind", "cut", "merges", "state at 1k", "at 1M tokens", "cost per token", "source"]]
    for family in MixerFamily.allCases {
      for entry in MixerRegistry.standard.entries where entry.card.family == family {
        let mixer = try make(entry)
        let sizes = [1_000, 1_000_000].map { Human.bytes(mixer.stateBytes(batch: 1, length: $0, dtype: .float32)) }
        rows.append(
          [entry.name, family.rawValue, cut(mixer.laws.cut), merges(mixer.laws.merge) ? "yes" : "no"] + sizes
            + [entry.card.cost, entry.card.source])
      }
    }
    return aligned(rows) + """

      States of one sequence in f32 at width \(width), with the first settings that `fermata mixers NAME` shows.
      cut: where a sequence may be cut with nothing changed; merges: whether neighbouring stretches can be summarised
      apart and joined.

      """
  }

  private static func aligned(_ rows: [[String]]) -> String {
    let columns = rows.first?.count ?? 0
    let widths = (0..<columns).map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      row.enumerated().map { $0 == columns - 1 ? $1 : $1.padded(widths[$0] + 2) }.joined() + "\n"
    }.joined()
  }

  private static func make(_ entry: MixerRegistry.Entry) throws -> any Mixer {
    var random = RandomSource(seed: 0)
    return try MixerRegistry.standard.make(
      width: width, configuration: settings(entry, entry.examples.first ?? "{}"), random: &random)
  }

  private static func settings(_ entry: MixerRegistry.Entry, _ example: String) throws -> JSONValue {
    var settings = try StrictJSON.parse(Array(example.utf8), place: "example").objectValue ?? [:]
    settings["type"] = .string(entry.name)
    return .object(settings)
  }

  private static func cut(_ scope: CutScope) -> String {
    switch scope {
    case .causal: "anywhere"
    case .afterSeal: "after seal"
    case .none: "nowhere"
    }
  }

  private static func merges(_ law: MergeLaw) -> Bool { if case .associative = law { true } else { false } }

  private static func explanation(_ name: String) throws -> String {
    let entries = MixerRegistry.standard.entries
    guard let entry = entries.first(where: { $0.name == name }) else {
      throw UsageError("there is no mixer '\(name)' (\(StrictJSON.unknown(name, among: entries.map(\.name))))")
    }
    let mixers = try entry.examples.map { try settings(entry, $0) }
    let configuration: JSONValue = [
      "model_type": "fermata", "hidden_size": .int(width), "num_hidden_layers": 6,
      "mixers": .array(Array(mixers.prefix(1))),
    ]
    let laws = try make(entry).laws
    let merge =
      switch laws.merge {
      case .associative(let cost): "yes; a summary is \(cost)"
      case .none(let reason): "no: \(reason)"
      }
    return """
      \(entry.name): \(entry.card.summary)
      kind:     \(entry.card.family.rawValue)
      source:   \(entry.card.source)
      cut:      \(cut(laws.cut))
      merge:    \(merge)
      state:    \(entry.card.state) bytes
      cost:     \(entry.card.cost) operations a token beside the projections
      bad at:   \(entry.card.weakness)
      settings: \(entry.optionKeys.joined(separator: ", "))

      A model whose layers all use it (config.json):
      \(try configuration.text(indented: true))

      "mixers" is repeated over the layers and may name several. Settings that the tests try:
      \(try mixers.map { "  " + (try $0.text()) + "\n" }.joined())
      """
  }
}

extension String {
  /// The text with spaces up to a width.
  func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
