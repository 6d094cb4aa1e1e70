import ArgumentParser
import FermataInference
import FermataTokenizers

/// Text that comes before the one to generate.
struct PromptOptions: ParsableArguments {
  @Option(
    name: .shortAndLong, parsing: .unconditional,
    help: ArgumentHelp("Text to go on from; - reads standard input.", valueName: "text"))
  var prompt: String?

  @Option(name: .shortAndLong, help: ArgumentHelp("File to go on from; - reads standard input.", valueName: "file"))
  var file: String?

  func validate() throws {
    if prompt != nil && file != nil { throw ValidationError("-p and -f both give a prompt; give one of them") }
  }

  /// Where the prompt is read from.
  func open() throws -> PromptSource {
    if let file { return .input(try InputReader(file)) }
    return prompt == "-" ? .input(try InputReader("-")) : .text(prompt ?? "")
  }
}

/// Where a prompt comes from.
enum PromptSource {
  case text(String)
  case input(InputReader)

  /// Bytes that are read at a time.
  static let pieceLength = 512

  /// All of it at once.
  func readToEnd() throws -> [UInt8] {
    switch self {
    case .text(let text): Array(text.utf8)
    case .input(let reader): try reader.readToEnd()
    }
  }

  /// A generator that has read the prompt; of a model of bytes, inputs of any size take constant memory.
  /// - Throws: `Interrupted` when a signal comes first.
  func generator(
    _ session: StreamingSession, tokenizer: any Tokenizer, options: GenerationOptions
  ) throws -> Generator {
    switch self {
    case .text: return try Generator(session, tokenizer: tokenizer, prompt: readToEnd(), options: options)
    case .input(let reader):
      guard let bytes = tokenizer as? ByteTokenizer else {
        return try Generator(session, tokenizer: tokenizer, prompt: readToEnd(), options: options)
      }
      return try Self.generator(session, bytes, reading: reader, options: options)
    }
  }

  private static func generator(
    _ session: StreamingSession, _ tokenizer: ByteTokenizer, reading reader: InputReader, options: GenerationOptions
  ) throws -> Generator {
    var session = session
    // The end of the prompt goes through the generator, whose repetition penalty looks back at it.
    var waiting = try reader.read(pieceLength)
    while true {
      let next = try reader.read(pieceLength)
      if next.isEmpty { break }
      waiting += next
      guard waiting.count == 2 * pieceLength else { continue }
      let piece = Array(waiting.prefix(pieceLength))
      try session.read(
        tokenizer.encode(piece, addingSpecialTokens: session.position == 0, parsingSpecialTokens: false))
      waiting.removeFirst(pieceLength)
    }
    return try Generator(session, tokenizer: tokenizer, prompt: waiting, options: options)
  }
}
