import Foundation
import Synchronization

/// What the terminal is and can do.
enum Terminal {
  static func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

  /// Whether lines on standard error may be drawn over and coloured.
  static var canRedraw: Bool {
    isTerminal(STDERR_FILENO) && ProcessInfo.processInfo.environment["TERM"] != "dumb"
  }

  static var hasColor: Bool {
    canRedraw && (ProcessInfo.processInfo.environment["NO_COLOR"] ?? "").isEmpty
  }

  /// Faint text on standard error where it may have colours.
  static func faint(_ text: String) -> String { hasColor ? "\u{1B}[2m\(text)\u{1B}[0m" : text }

  /// Columns of the terminal on standard error.
  static var width: Int {
    var size = winsize()
    let isKnown = ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
    return isKnown ? Int(size.ws_col) : 80
  }
}

/// The signal that asked the process to end; 0: none yet. Loading and storing it is safe inside a handler.
private let receivedSignal = Atomic<Int32>(0)

/// Ctrl-C and `kill`, which end the work between two tokens or steps. A second one ends the process at once.
/// There is one flag in a process; values of this type are handles on it.
struct InterruptFlag: Sendable {
  var isSet: Bool { receivedSignal.load(ordering: .relaxed) != 0 }

  /// What a shell shows for a process ended by the signal: 130 for Ctrl-C.
  var exitCode: Int32 { 128 + receivedSignal.load(ordering: .relaxed) }

  /// Throws `Interrupted` when the work should end.
  func check() throws {
    if isSet { throw Interrupted() }
  }

  /// From now on the first signal only sets the flag. Blocking reads return, so that they can look at it.
  @discardableResult
  static func install() -> InterruptFlag {
    let flag = InterruptFlag()
    // Made before a handler can need it.
    _ = flag.isSet
    // A parent may have left them blocked.
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM] {
      sigaddset(&signals, number)
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { receivedSignal.store($0, ordering: .relaxed) }
      action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND))
      sigaction(number, &action, nil)
    }
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    return flag
  }

  /// Forgets a signal that was dealt with; the next one sets the flag again.
  static func reset() {
    receivedSignal.store(0, ordering: .relaxed)
    install()
  }

  /// Writing to a pipe that nobody reads becomes an error that is handled, rather than a silent end.
  static func ignoreBrokenPipes() { signal(SIGPIPE, SIG_IGN) }
}

/// The work ended because a signal asked for it.
struct Interrupted: Error, CustomStringConvertible {
  var description: String { "interrupted" }
}

/// One line on a terminal's standard error that is drawn again and again; nothing elsewhere.
final class StatusLine {
  private let isShown = Terminal.canRedraw
  private var last: ContinuousClock.Instant?
  private var isDrawn = false

  /// Shows the text, ten times a second at most.
  func update(_ text: () -> String) {
    guard isShown, last.map({ $0.duration(to: .now) > .milliseconds(100) }) ?? true else { return }
    last = .now
    isDrawn = true
    StandardError.write("\r" + text().prefix(max(0, Terminal.width - 1)) + "\u{1B}[K")
  }

  /// Takes the line away.
  func clear() {
    if isDrawn { StandardError.write("\r\u{1B}[K") }
    isDrawn = false
  }
}
