import ArgumentParser
import FermataFiles

/// A mistyped option that must be there is missing to the parser, which says so and not what was typed. This finds it.
enum MistypedOption {
  /// The error for the first word that looks like an option and is none, where one of the command's is near; nil where
  /// there is no such word.
  static func error(in arguments: [String]) -> UsageError? {
    guard let verb = arguments.first,
      let command = RootCommand.configuration.subcommands.first(where: { $0.configuration.commandName == verb })
    else { return nil }
    let known = options(of: command)
    for word in arguments.dropFirst().prefix(while: { $0 != "--" }) where word.hasPrefix("--") {
      let name = String(word.prefix { $0 != "=" })
      guard !known.contains(name), let near = StrictJSON.nearest(name, in: known) else { continue }
      return UsageError("Unknown option '\(name)'. Did you mean '\(near)'?")
    }
    return nil
  }

  /// The long names of a command's options, read off its help: the parser keeps no other list.
  private static func options(of command: any ParsableCommand.Type) -> [String] {
    let help = RootCommand.helpMessage(for: command)
    let words = help.split { !($0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-")) }
    return Array(Set(words.filter { $0.hasPrefix("--") && $0.count > 2 }.map(String.init))).sorted()
  }
}
