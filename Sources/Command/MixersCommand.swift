import ArgumentParser
import FermataFiles
import FermataMixers

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

  private static func table() -> String {
    let entries = MixerRegistry.standard.entries
    let width = entries.map(\.name.count).max() ?? 0
    return entries.map { $0.name.padded(width) + "  \($0.summary)\n" }.joined()
      + "\n`fermata mixers NAME` explains one.\n"
  }

  private static func explanation(_ name: String) throws -> String {
    let entries = MixerRegistry.standard.entries
    guard let entry = entries.first(where: { $0.name == name }) else {
      throw UsageError("there is no mixer '\(name)' (\(StrictJSON.unknown(name, among: entries.map(\.name))))")
    }
    let mixers = try entry.examples.map { example in
      var settings = try StrictJSON.parse(Array(example.utf8), place: "example").objectValue ?? [:]
      settings["type"] = .string(entry.name)
      return JSONValue.object(settings)
    }
    let configuration: JSONValue = [
      "model_type": "fermata", "hidden_size": 256, "num_hidden_layers": 6, "mixers": .array(Array(mixers.prefix(1))),
    ]
    return """
      \(entry.name): \(entry.summary)
      source: \(entry.source)
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
