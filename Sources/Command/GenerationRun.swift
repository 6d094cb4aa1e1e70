import FermataFiles
import FermataInference
import FermataReports

/// A text on its way from a generator to standard output, and what it took.
struct GenerationRun {
  private(set) var generator: Generator
  var promptTokens = 0
  var promptSeconds = 0.0
  private let isRaw: Bool
  private let output = StandardOutput()
  private var seconds = 0.0
  private var characters = UTF8Stream()

  init(_ generator: Generator, isRaw: Bool) {
    self.generator = generator
    self.isRaw = isRaw
  }

  /// Prints until the generator or something else ends it.
  /// - Returns: what ended it before its time; nil when the generator did.
  mutating func stream() -> (any Error)? {
    let start = ContinuousClock.now
    defer { seconds = start.duration(to: .now).seconds }
    var failure: (any Error)?
    do {
      while let bytes = try generator.next() {
        try print(bytes)
        try InterruptFlag().check()
      }
    } catch {
      failure = error
    }
    if failure is BrokenPipe { return failure }
    do {
      if !isRaw { try output.write(characters.finish()) }
      try output.endLineOnTerminal()
      try output.flush()
    } catch {
      return failure ?? error
    }
    return failure
  }

  private mutating func print(_ bytes: [UInt8]) throws {
    try output.write(isRaw ? bytes : characters.push(bytes))
  }

  /// Speed and memory, on standard error.
  func showStatistics(seed: UInt64) {
    let state = generator.session.state
    let reason = generator.end.map { Self.words[$0] ?? $0.rawValue } ?? "interrupted"
    let lines = [
      "prompt     \(promptTokens) tokens, \(speed(promptTokens, promptSeconds))",
      "generated  \(generator.generated) tokens, \(speed(generator.generated, seconds)) (\(reason))",
      "state      \(Human.bytes(state.byteCount)) after \(state.position) tokens",
      "memory     \(Human.bytes(peakMemory())) at the peak",
      "seed       \(seed)",
    ]
    StandardError.write("\n" + lines.map { Terminal.faint($0) + "\n" }.joined())
  }

  private static let words: [EndReason: String] = [
    .length: "as many as asked", .stop: "a stop text", .endOfDocument: "end of the document", .cancelled: "cancelled",
  ]
}
