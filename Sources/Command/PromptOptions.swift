import ArgumentParser
import FermataInference

/// Text that comes before the one to generate.
struct PromptOptions: ParsableArguments {
  @Option(
    name: .shortAndLong, parsing: .unconditional,
    help: ArgumentHelp("Text to go on from; - reads standard input.", valueName: "text"))
  var prompt: String?

  @Option(name: .shortAndLong, help: ArgumentHelp("File to go on from; - reads standard input.", valueName: "file"))
  var file: String?

  var isGiven: Bool { file != nil || !(prompt ?? "").isEmpty }

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

  /// A generator that has read the prompt; inputs of any size take constant memory.
  /// - Throws: `Interrupted` when a signal comes first.
  func generator(_ session: StreamingSession, options: GenerationOptions) throws -> Generator {
    switch self {
    case .text(let text): try Generator(session, prompt: Array(text.utf8), options: options)
    case .input(let reader): try Self.generator(session, reading: reader, options: options)
    }
  }

  private static func generator(
    _ session: StreamingSession, reading reader: InputReader, options: GenerationOptions
  ) throws -> Generator {
    var session = session
    // The end of the prompt goes through the generator, whose repetition penalty looks back at it.
    var waiting = try reader.read(pieceLength)
    while true {
      let next = try reader.read(pieceLength)
      if next.isEmpty { break }
      waiting += next
      guard waiting.count == 2 * pieceLength else { continue }
      let begin = session.position == 0 ? [session.model.configuration.beginToken] : []
      try session.read(begin + waiting.prefix(pieceLength).map { Int($0) })
      waiting.removeFirst(pieceLength)
    }
    return try Generator(session, prompt: waiting, options: options)
  }
}
