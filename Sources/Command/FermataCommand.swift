import ArgumentParser
import FermataFiles
import Foundation

/// The tool: thin verbs over the library, one file each.
struct RootCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fermata",
    abstract: "Sequence models of any length: train them, stream from them, score with them.",
    discussion: """
      Examples:
        fermata train book.txt -o runs/book              train a model on a text
        fermata generate -m runs/book -p "Once upon"     stream text from it
        fermata chat -m models/assistant                 talk with a model
        fermata score -m runs/book other.txt             bits per byte of a file
        fermata info -m runs/book                        what a model is
        fermata tokenize -m runs/book < text.txt         token ids of a text
        fermata mixers                                   what models are made of
        fermata task parity --mixer lstm                 what a mixer can learn

      A model is a folder of config.json and model.safetensors, or the folder of a training run (its best model).

      Exit codes: 0 done, 64 usage, 65 bad data, model or state, 66 missing or unreadable input, 71 no memory, 74 output \
      cannot be written, 130 or 143 interrupted, 141 output closed, 1 anything else.
      """,
    version: "0.1.0",
    subcommands: [
      TrainCommand.self, GenerateCommand.self, ChatCommand.self, ScoreCommand.self, LogitsCommand.self,
      EmbedCommand.self, ExportCommand.self, InfoCommand.self, TokenizeCommand.self, DetokenizeCommand.self,
      MixersCommand.self,
      TaskCommand.self, ProcessorCommand.self,
    ])
}

@main
struct Main {
  static func main() {
    InterruptFlag.ignoreBrokenPipes()
    do {
      try refuseUnknownCommand(CommandLine.arguments.dropFirst().first)
      var command = try parse()
      try command.run()
    } catch {
      exit(ErrorReporting.report(error))
    }
  }

  private static func parse() throws -> any ParsableCommand {
    do {
      return try RootCommand.parseAsRoot()
    } catch  where RootCommand.exitCode(for: error) == .validationFailure {
      throw MistypedOption.error(in: Array(CommandLine.arguments.dropFirst())) ?? error
    }
  }

  /// The parser would take a mistyped command for an argument and complain of the words behind it.
  private static func refuseUnknownCommand(_ word: String?) throws {
    let known = RootCommand.configuration.subcommands.compactMap { $0.configuration.commandName } + ["help"]
    guard let word, !word.hasPrefix("-"), !known.contains(word) else { return }
    throw UsageError("there is no command '\(word)' (\(StrictJSON.unknown(word, among: known)))")
  }
}
