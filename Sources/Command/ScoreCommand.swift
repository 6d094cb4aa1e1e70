import ArgumentParser
import FermataFiles
import FermataInference
import FermataReports
import FermataTensors
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

      Prints the bits that the model needs for all bytes, and per byte. With --per-token each byte is a line on standard \
      output (offset, byte, minus the logarithm of its probability in nats) and the totals go to standard error.

      A document begins before the first byte, unless a state is loaded: then the first byte cannot be scored, because a \
      state does not hold the prediction that came with it (NA, or null in JSON), and the totals leave it out.

      Memory stays constant for linear, recurrent and windowed models; full attention remembers every token.
      """)

  @OptionGroup(title: "Model") var source: ModelSource

  @Argument(help: "What to score; - or nothing reads standard input.")
  var file: String?

  @Flag(name: .customLong("per-token"), help: "Print a line for each byte: offset, byte, nats, with tabs between.")
  var perToken = false

  @Flag(help: "Print JSON: one object for the totals, one per line with --per-token.")
  var json = false

  @OptionGroup(title: "State") var stateOptions: StateOptions
  @OptionGroup(title: "Machine") var machine: MachineOptions

  private static let pieceLength = 1024

  func run() throws {
    try machine.apply()
    if file == nil, Terminal.isTerminal(STDIN_FILENO) {
      throw UsageError("nothing to score; name a FILE, pipe text in, or give - to type it")
    }
    InterruptFlag.install()
    let reader = try InputReader(file ?? "-")
    var session = try stateOptions.session(source.load(), pieceLength: Self.pieceLength)
    if session.position == 0 { try session.read([session.model.configuration.beginToken]) }
    var score = Score()
    let output = StandardOutput()
    let failure = read(reader, into: &session, score: &score, output: output)
    // What has been read is kept and counted, whatever ended it.
    if score.bytes > 0 { try stateOptions.saveState(of: session) }
    if failure == nil || failure is Interrupted { try show(score, output) }
    if failure is Interrupted { throw ExitCode(InterruptFlag().exitCode) }
    if let failure { throw failure }
  }

  /// Scores block after block.
  /// - Returns: what ended it before the end of the input.
  private func read(
    _ reader: InputReader, into session: inout StreamingSession, score: inout Score, output: StandardOutput
  ) -> (any Error)? {
    let status = StatusLine()
    defer { status.clear() }
    do {
      while true {
        let bytes = try reader.read(Self.pieceLength)
        if bytes.isEmpty { break }
        let losses = try session.score(bytes.map { Int($0) })
        if perToken { try output.write(lines(bytes, losses, from: score.bytes)) }
        try score.add(losses)
        status.update { score.progress(of: reader.size) }
      }
      try output.flush()
      return nil
    } catch {
      return error
    }
  }

  private func lines(_ bytes: [UInt8], _ losses: [Float?], from start: Int) -> String {
    var text = ""
    for (index, byte) in bytes.enumerated() {
      let nats = losses[index].map { "\($0)" }
      text +=
        json
        ? "{\"offset\":\(start + index),\"byte\":\(byte),\"nats\":\(nats ?? "null")}\n"
        : "\(start + index)\t\(byte)\t\(nats ?? "NA")\n"
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

/// The sum over the bytes scored so far.
struct Score {
  private(set) var bytes = 0
  private(set) var scored = 0
  private(set) var nats = 0.0
  private let start = ContinuousClock.now

  var bits: Double { nats / 0.693_147_180_559_945_3 }
  var bitsPerByte: Double { scored > 0 ? bits / Double(scored) : 0 }
  private var seconds: Double { start.duration(to: .now).seconds }

  /// - Throws: `TensorError` for a loss that is no number: the totals would be none either.
  mutating func add(_ losses: [Float?]) throws {
    for loss in losses {
      if let loss {
        try require(
          loss.isFinite, "score", expected: "finite losses", got: "\(loss) at byte \(bytes)",
          advice: "the model's weights or the state are damaged")
        nats += Double(loss)
        scored += 1
      }
      bytes += 1
    }
  }

  var table: String {
    let unscored = bytes > scored ? " (\(scored) scored)" : ""
    return """
      bytes          \(bytes)\(unscored)
      bits           \(Human.fixed(bits, 2))
      bits per byte  \(Human.fixed(bitsPerByte, 4))
      speed          \(speed(bytes, seconds))
      memory         \(Human.bytes(peakMemory())) at the peak

      """
  }

  var json: JSONValue {
    [
      "bytes": .int(bytes), "scored": .int(scored), "nats": .double(nats), "bits": .double(bits),
      "bits_per_byte": .double(bitsPerByte), "seconds": .double(seconds),
      "tokens_per_second": .double(seconds > 0 ? Double(bytes) / seconds : 0), "peak_memory_bytes": .int(peakMemory()),
    ]
  }

  func progress(of size: Int?) -> String {
    let total = size.map { " of \(Human.bytes($0))" } ?? ""
    let left = size.map {
      "  \(Human.duration(seconds: seconds * Double(max(0, $0 - bytes)) / Double(max(1, bytes)))) left"
    }
    return
      "\(Human.bytes(bytes))\(total)  \(Human.fixed(bitsPerByte, 3)) bits/byte  \(speed(bytes, seconds))\(left ?? "")"
  }
}
