import ArgumentParser
import FermataFiles
import FermataTokenizers

/// Where a tokenizer comes from.
struct TokenizerSource: ParsableArguments {
  @Option(
    name: .shortAndLong,
    help: "A tokenizer.json, SentencePiece .model or .gguf file, a folder that holds one, or the name bytes or dna.")
  var model: String

  func load() throws -> any Tokenizer { try TokenizerFiles.load(model) }
}

/// Text from standard input to token ids.
struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Turn the text on standard input into token ids.",
    discussion: """
      Examples:
        fermata tokenize -m llama/tokenizer.json < book.txt
        printf 'Hello world' | fermata tokenize -m model.gguf --ids
        fermata tokenize -m llama --ids --special < book.txt > ids.txt

      Every byte of standard input counts, a final newline too. With --ids all ids are on one line, with spaces between; \
      otherwise each token is a line: its id, a tab, and the token in quotes as its file writes it.

      No begin, end or other special token is added unless --special says so. Special tokens that are written in the text \
      count as such with --special, and for a tokenizer.json always, because its own library does the same.
      """)

  @OptionGroup(title: "Tokenizer") var source: TokenizerSource

  @Flag(help: "Print ids alone, on one line.")
  var ids = false

  @Flag(help: "Add the special tokens that the model expects around a text, and recognise them in it.")
  var special = false

  func run() throws {
    let tokenizer = try source.load()
    let text = try InputReader("-").readToEnd()
    let tokens = try tokenizer.encode(
      text, addingSpecialTokens: special, parsingSpecialTokens: special || tokenizer.parsesSpecialTokensByDefault)
    let output = StandardOutput()
    if ids {
      try write(tokens, to: output)
    } else {
      for token in tokens {
        let piece = try JSONValue.string(tokenizer.token(token) ?? "").text()
        try output.write("\(token)\t\(piece)\n")
      }
    }
    try output.flush()
  }

  private func write(_ tokens: [Int], to output: StandardOutput) throws {
    for (place, token) in tokens.enumerated() { try output.write(place == 0 ? "\(token)" : " \(token)") }
    try output.write("\n")
  }
}
