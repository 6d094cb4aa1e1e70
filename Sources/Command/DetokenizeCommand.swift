import ArgumentParser
import FermataTokenizers

/// Token ids from standard input to text.
struct DetokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "detokenize",
    abstract: "Turn the token ids on standard input into text.",
    discussion: """
      Examples:
        echo 15496 995 | fermata detokenize -m gpt2/tokenizer.json
        fermata tokenize -m llama --ids < book.txt | fermata detokenize -m llama > same.txt

      Ids are separated by white space or commas. The text is written byte for byte, with no newline added. Special \
      tokens are left out unless --special says otherwise.
      """)

  @OptionGroup(title: "Tokenizer") var source: TokenizerSource

  @Flag(help: "Write special tokens as their names instead of leaving them out.")
  var special = false

  func run() throws {
    let tokenizer = try source.load()
    let text = try InputReader("-").readToEnd()
    var decoder = tokenizer.makeDecoder(skippingSpecialTokens: !special)
    let output = StandardOutput()
    for word in text.split(whereSeparator: Self.separators.contains) {
      guard let id = Int(String(decoding: word, as: UTF8.self)) else {
        throw UsageError(
          "standard input holds '\(String(decoding: word.prefix(40), as: UTF8.self))', which is no token id")
      }
      try output.write(decoder.push(id))
    }
    try output.write(try decoder.finish())
    try output.endLineOnTerminal()
    try output.flush()
  }

  private static let separators = Set(" \t\r\n,".utf8)
}
