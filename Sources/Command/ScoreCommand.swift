import ArgumentParser
import FermataFiles
import FermataInference
import FermataReports
import FermataTensors
import FermataTokenizers
import Foundation

/// Log-likelihood of files and pipes of any size.
struct ScoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "score",
    abstract: "How well a model predicts a file or pipe of any size, in constant memory.",
    discussion: """
      Examples:
        fermata score -m runs/book book.txt
        zcat dump.gz | fermata score -m runs/book
        fermata score -m runs/book book.txt --per-token > book.tsv
        fermata score -m runs/book book.txt --per-token --json | jq .nats
        fermata score -m runs/book part1.txt --save-state half.state
        fermata score -m runs/book part2.txt --load-state half.state

      Prints the bits that the model needs for all bytes, and per byte. With --per-token each token (of a model of bytes: \
      each byte) is a line on standard output (offset, token, minus the logarithm of its probability in nats) and the \
      totals go to standard error.

      A document begins before the first byte, unless a state is loaded. The first token of all can only be scored where \
      something came before it (NA, or null in JSON, otherwise), and the totals leave it out.

      Memory stays constant for linear, recurrent and windowed models; full attention remembers every token.
      """)

  @OptionGroup(title: "Model") var source: ModelSource

  @Argument(help: "What to score; - or nothing reads standard input.")
  var file: String?

  @Flag(name: .customLong("per-token"), help: "Print a line for each token: offset, token, nats, with tabs between.")
  var perToken = false

  @Flag(help: "Print JSON: one object for the totals, one per line with --per-token.")
  var json = false

  @OptionGroup(title: "Length") var lengthOption: LengthOption
  @OptionGroup(title: "State") var stateOptions: StateOptions
  @OptionGroup(title: "Machine") var machine: MachineOptions

  private static let pieceLength = 1024

  func run() throws {
    try machine.apply()
    if file == nil, Terminal.isTerminal(STDIN_FILENO) {
      throw UsageError("nothing to score; name a FILE, pipe text in, or give - to type it")
    }
    InterruptFlag.install()
    var model = try source.load()
    let tokenizer = try source.tokenizer(of: model)
    let reader = try InputReader(file ?? "-")
    // What is scored by tokens is tokenized before the model's length is fixed.
    var text: (bytes: Int, tokens: [Int])?
    if !(tokenizer is ByteTokenizer) {
      let bytes = try reader.readToEnd()
      let tokens = try tokenizer.encode(
        bytes, addingSpecialTokens: stateOptions.load == nil, parsingSpecialTokens: false)
      text = (bytes.count, tokens)
      model = try lengthOption.fix(model, needed: stateOptions.load == nil ? tokens.count : nil)
    }
    var session = try stateOptions.session(model, pieceLength: Self.pieceLength)
    session.limitLength(to: lengthOption.maximum)
    var score = Score()
    let output = StandardOutput()
    let failure: (any Error)?
    if let text {
      failure = self.score(text.tokens, of: text.bytes, into: &session, score: &score, output: output)
    } else {
      if session.position == 0, let begin = tokenizer.beginToken { try session.read([begin]) }
      failure = read(reader, into: &session, score: &score, output: output)
    }
    // What has been read is kept and counted, whatever ended it.
    if score.tokens > 0 { try stateOptions.saveState(of: session) }
    if failure == nil || failure is Interrupted { try show(score, output) }
    if failure is Interrupted { throw ExitCode(InterruptFlag().exitCode) }
    if let failure { throw failure }
  }

  /// Scores bytes block after block.
  /// - Returns: what ended it before the end of the input.
  private func read(
    _ reader: InputReader, into session: inout StreamingSession, score: inout Score, output: StandardOutput
  ) -> (any Error)? {
    watched(output) { status in
      while true {
        let bytes = try reader.read(Self.pieceLength)
        if bytes.isEmpty { break }
        let values = bytes.map { Int($0) }
        let losses = try session.score(values)
        if perToken { try output.write(lines(losses, of: values, "byte", from: score.tokens)) }
        try score.add(losses, bytes: bytes.count)
        status.update { score.progress(of: reader.size) }
      }
    }
  }

  /// Scores the tokens of a text of so many bytes, piece after piece.
  private func score(
    _ tokens: [Int], of bytes: Int, into session: inout StreamingSession, score: inout Score, output: StandardOutput
  ) -> (any Error)? {
    watched(output) { status in
      for start in stride(from: 0, to: tokens.count, by: Self.pieceLength) {
        let piece = Array(tokens[start..<min(start + Self.pieceLength, tokens.count)])
        let losses = try session.score(piece)
        if perToken { try output.write(lines(losses, of: piece, "token", from: start)) }
        // Which bytes a token stands for is not known, so their number grows evenly and is right at the end.
        let share = Double(start + piece.count) / Double(tokens.count)
        try score.add(losses, bytes: Int((Double(bytes) * share).rounded()) - score.bytes)
        status.update { score.progress(of: nil) }
        try InterruptFlag().check()
      }
    }
  }

  private func watched(_ output: StandardOutput, _ body: (StatusLine) throws -> Void) -> (any Error)? {
    let status = StatusLine()
    defer { status.clear() }
    do {
      try body(status)
      try output.flush()
      return nil
    } catch {
      return error
    }
  }

  /// A line for each token; `kind` is what JSON calls its value.
  private func lines(_ losses: [Float?], of values: [Int], _ kind: String, from start: Int) -> String {
    var text = ""
    for (index, value) in values.enumerated() {
      let nats = losses[index].map { "\($0)" }
      text +=
        json
        ? "{\"offset\":\(start + index),\"\(kind)\":\(value),\"nats\":\(nats ?? "null")}\n"
        : "\(start + index)\t\(value)\t\(nats ?? "NA")\n"
    }
    return text
  }

  private func show(_ score: Score, _ output: StandardOutput) throws {
    let text = json ? try score.json.text() + "\n" : score.table
    if perToken {
      try output.flush()
      StandardError.write(text)
    } else {
      try output.write(text)
      try output.flush()
    }
  }
}

/// The sum over what was scored so far.
struct Score {
  /// Bytes of the text, as far as it was read.
  private(set) var bytes = 0
  private(set) var tokens = 0
  /// Tokens that have a loss.
  private(set) var scored = 0
  private(set) var nats = 0.0
  private let start = ContinuousClock.now

  var bits: Double { nats / 0.693_147_180_559_945_3 }
  /// Where tokens are bytes, those without a loss do not count.
  var bitsPerByte: Double {
    let divisor = tokens == bytes ? scored : bytes
    return divisor > 0 ? bits / Double(divisor) : 0
  }
  private var seconds: Double { start.duration(to: .now).seconds }

  /// - Throws: `TensorError` for a loss that is no number: the totals would be none either.
  mutating func add(_ losses: [Float?], bytes: Int) throws {
    self.bytes += bytes
    for loss in losses {
      if let loss {
        try require(
          loss.isFinite, "score", expected: "finite losses", got: "\(loss) at token \(tokens)",
          advice: "the model's weights or the state are damaged")
        nats += Double(loss)
        scored += 1
      }
      tokens += 1
    }
  }

  var table: String {
    let unscored = tokens > scored ? " (\(scored) scored)" : ""
    let counts = tokens == bytes ? "\(bytes)" : "\(bytes) in \(tokens) tokens"
    return """
      bytes          \(counts)\(unscored)
      bits           \(Human.fixed(bits, 2))
      bits per byte  \(Human.fixed(bitsPerByte, 4))
      speed          \(speed(tokens, seconds))
      memory         \(Human.bytes(peakMemory())) at the peak

      """
  }

  var json: JSONValue {
    [
      "bytes": .int(bytes), "tokens": .int(tokens), "scored": .int(scored), "nats": .double(nats),
      "bits": .double(bits),
      "bits_per_byte": .double(bitsPerByte), "seconds": .double(seconds),
      "tokens_per_second": .double(seconds > 0 ? Double(tokens) / seconds : 0), "peak_memory_bytes": .int(peakMemory()),
    ]
  }

  func progress(of size: Int?) -> String {
    let total = size.map { " of \(Human.bytes($0))" } ?? ""
    let left = size.map {
      "  \(Human.duration(seconds: seconds * Double(max(0, $0 - bytes)) / Double(max(1, bytes)))) left"
    }
    return
      "\(Human.bytes(bytes))\(total)  \(Human.fixed(bitsPerByte, 3)) bits/byte  \(speed(tokens, seconds))\(left ?? "")"
  }
}
