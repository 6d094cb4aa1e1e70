import Foundation

/// What is known of a run at one moment.
public struct RunProgress: Sendable, Equatable {
  /// Steps done, and of how many; a run without end has nil.
  public var step: Int
  public var total: Int?
  public var loss: Double?
  public var bitsPerByte: Double?
  public var tokensPerSecond: Double?
  /// Time left in seconds.
  public var secondsLeft: Double?
  /// Peak memory in bytes.
  public var peakMemory: Int?

  public init(
    step: Int, total: Int? = nil, loss: Double? = nil, bitsPerByte: Double? = nil, tokensPerSecond: Double? = nil,
    secondsLeft: Double? = nil, peakMemory: Int? = nil
  ) {
    self.step = step
    self.total = total
    self.loss = loss
    self.bitsPerByte = bitsPerByte
    self.tokensPerSecond = tokensPerSecond
    self.secondsLeft = secondsLeft
    self.peakMemory = peakMemory
  }

  /// Steps done as a part of all, 0...1.
  var fraction: Double? {
    total.map { $0 > 0 ? min(1, max(0, Double(step) / Double($0))) : 1 }
  }

  /// What the line says, the most wanted first.
  var parts: [String] {
    var parts = [total.map { "step \(step)/\($0)" } ?? "step \(step)"]
    if let loss { parts.append("loss \(Human.fixed(loss, 3))") }
    if let bitsPerByte { parts.append("\(Human.fixed(bitsPerByte, 3)) bits/byte") }
    if let secondsLeft { parts.append("\(Human.duration(seconds: secondsLeft)) left") }
    if let tokensPerSecond { parts.append("\(Human.count(tokensPerSecond)) tokens/s") }
    if let peakMemory { parts.append("peak \(Human.bytes(peakMemory))") }
    return parts
  }
}

/// Shows progress on standard error: one line that is drawn again and again in a terminal, plain lines now and then
/// elsewhere.
///
/// Colour is left out where `NO_COLOR` is set to anything but nothing, or the terminal is "dumb".
public final class ProgressLine {
  /// Where the line goes and how it may look.
  struct Output {
    var isTerminal: Bool
    var hasColor: Bool
    /// Columns; asked for each time, since windows change.
    var width: () -> Int
    var write: (String) -> Void
    /// Seconds on a clock that never goes back.
    var now: () -> Double
  }

  private let output: Output
  private let interval: Double
  private let stepInterval: Int
  private var lastShown: (time: Double, step: Int)?
  private var isOnLine = false

  /// - Parameters:
  ///   - interval: seconds between two plain lines.
  ///   - stepInterval: steps between two plain lines; whichever comes first.
  public convenience init(interval: Double = 10, stepInterval: Int = .max) {
    self.init(output: .standardError(), interval: interval, stepInterval: stepInterval)
  }

  init(output: Output, interval: Double, stepInterval: Int) {
    self.output = output
    self.interval = interval
    self.stepInterval = stepInterval
  }

  /// Shows `progress` if it is time to: in a terminal ten times a second at most.
  public func update(_ progress: RunProgress) {
    let now = output.now()
    if let last = lastShown {
      let isLast = progress.step == progress.total && progress.step != last.step
      let isDue =
        output.isTerminal
        ? now - last.time >= 0.1 : now - last.time >= interval || progress.step - last.step >= stepInterval
      if !isDue, !isLast { return }
    }
    lastShown = (now, progress.step)
    if output.isTerminal {
      // Cleared to the end rather than before, so that it does not flicker.
      output.write("\r" + ProgressLine.line(progress, width: output.width(), hasColor: output.hasColor) + "\u{1B}[K")
      isOnLine = true
    } else {
      output.write(progress.parts.joined(separator: "  ") + "\n")
    }
  }

  /// Prints a line of its own, above the progress line.
  public func message(_ text: String) {
    output.write((isOnLine ? "\r\u{1B}[K" : "") + text + "\n")
    isOnLine = false
    // So that the next update brings the progress line back at once.
    if output.isTerminal { lastShown = nil }
  }

  /// Ends the line, so that what follows begins on one of its own.
  public func finish() {
    if isOnLine { output.write("\n") }
    isOnLine = false
  }

  /// A bar, and as many parts as fit into `width` columns less one, where some terminals would wrap.
  static func line(_ progress: RunProgress, width: Int, hasColor: Bool) -> String {
    let room = max(0, width - 1)
    var text = ""
    for part in progress.parts {
      let longer = text.isEmpty ? part : text + "  " + part
      if longer.count > room { break }
      text = longer
    }
    let barWidth = min(30, room - text.count - 3)
    guard let fraction = progress.fraction, barWidth >= 8 else { return text }
    let eighths = Int(fraction * Double(barWidth) * 8)
    let partial: [Character] = ["▏", "▎", "▍", "▌", "▋", "▊", "▉"]
    var bar = String(repeating: "█", count: eighths / 8)
    if eighths % 8 > 0 { bar.append(partial[eighths % 8 - 1]) }
    let rest = String(repeating: "░", count: barWidth - bar.count)
    return (hasColor ? "\u{1B}[36m\(bar)\u{1B}[90m\(rest)\u{1B}[0m" : bar + rest) + " " + text
  }
}

extension ProgressLine.Output {
  /// The process's standard error.
  static func standardError(environment: [String: String] = ProcessInfo.processInfo.environment) -> Self {
    let isDumb = environment["TERM"] == "dumb"
    let isTerminal = isatty(STDERR_FILENO) == 1 && !isDumb
    let start = ContinuousClock.now
    return Self(
      isTerminal: isTerminal,
      hasColor: isTerminal && (environment["NO_COLOR"] ?? "").isEmpty,
      width: {
        var size = winsize()
        let isKnown = ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
        return isKnown ? Int(size.ws_col) : 80
      },
      write: { text in
        let bytes = Array(text.utf8)
        var done = 0
        // RunProgress that cannot be shown is no reason to stop a run.
        while done < bytes.count {
          let count = bytes[done...].withUnsafeBytes { Foundation.write(STDERR_FILENO, $0.baseAddress, $0.count) }
          if count <= 0, errno != EINTR { return }
          done += max(0, count)
        }
      },
      now: {
        let elapsed = (ContinuousClock.now - start).components
        return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
      })
  }
}
