import FermataFiles
import FermataInference
import FermataReports
import Foundation

/// Questions from a person or a pipe, answers on standard output, and what they took.
struct Conversation {
  private var chat: ChatSession
  private let beginning: ChatSession
  private let options: GenerationOptions
  private let output = StandardOutput()
  private let isInteractive = Terminal.isTerminal(STDIN_FILENO)
  private var turns = 0
  private var promptTokens = 0
  private var promptSeconds = 0.0
  private var tokensReadAgain = 0
  private var generated = 0
  private var seconds = 0.0

  init(_ chat: ChatSession, options: GenerationOptions) {
    self.chat = chat
    beginning = chat
    self.options = options
  }

  /// Answers one message, or every line of standard input.
  mutating func run(reading message: String?) throws {
    do {
      if let message { return try answer(message) }
      while let line = try nextMessage() {
        switch line {
        case "/exit", "/bye": return
        case "/new":
          chat = beginning
          StandardError.write(Terminal.faint("a new conversation\n"))
        case "": continue
        default: try answer(line)
        }
      }
    } catch is Interrupted {
      return
    }
  }

  private mutating func answer(_ message: String) throws {
    let start = ContinuousClock.now
    var next = options
    // Equal questions in one conversation need not have equal answers; equal seeds give equal conversations.
    next.sampling.seed &+= UInt64(turns)
    let generator = try chat.ask(message, options: next)
    promptSeconds += start.duration(to: .now).seconds
    promptTokens += chat.tokensRead
    tokensReadAgain += chat.tokensReadAgain
    if chat.tokensReadAgain > 0 {
      StandardError.write(
        Terminal.faint("the template changed earlier turns: \(chat.tokensReadAgain) tokens are read again\n"))
    }
    try stream(generator)
    turns += 1
  }

  /// Prints an answer as it comes. Ctrl-C breaks it off; what was said until then stays said.
  private mutating func stream(_ first: Generator) throws {
    var generator = first
    var characters = UTF8Stream()
    var said: [UInt8] = []
    let start = ContinuousClock.now
    while let bytes = try generator.next() {
      let text = characters.push(bytes)
      said += text
      try output.write(text)
      if InterruptFlag().isSet { break }
    }
    said += characters.finish()
    seconds += start.duration(to: .now).seconds
    generated += generator.generated
    try output.write("\n")
    try output.flush()
    chat.finish(generator, answer: String(decoding: said, as: UTF8.self))
    if InterruptFlag().isSet, isInteractive { InterruptFlag.reset() }
    try InterruptFlag().check()
  }

  /// The next line, joined with those that follow a `\` at its end; nil at the end of the input.
  private func nextMessage() throws -> String? {
    if isInteractive { StandardError.write(Terminal.faint("> ")) }
    guard var message = readLine() else { return nil }
    while message.hasSuffix("\\") {
      message.removeLast()
      guard let more = readLine() else { break }
      message += "\n" + more
    }
    try InterruptFlag().check()
    return message
  }

  /// Speed and memory, on standard error.
  func showStatistics() {
    let lines = [
      "turns      \(turns)",
      "read       \(promptTokens) tokens, \(speed(promptTokens, promptSeconds))"
        + (tokensReadAgain > 0 ? ", \(tokensReadAgain) of earlier turns again" : ""),
      "generated  \(generated) tokens, \(speed(generated, seconds))",
      "state      \(Human.bytes(chat.session.state.byteCount)) after \(chat.session.position) tokens",
      "memory     \(Human.bytes(peakMemory())) at the peak",
      "seed       \(options.sampling.seed)",
    ]
    StandardError.write("\n" + lines.map { Terminal.faint($0) + "\n" }.joined())
  }
}
