import FermataFiles
import FermataTasks
import Foundation

/// Nobody reads standard output any more.
struct BrokenPipe: Error, CustomStringConvertible {
  var description: String { "standard output was closed" }
}

/// Standard output through one buffer: a terminal sees every token as it comes, a pipe or a file gets them together,
/// but none waits longer than a tenth of a second for the next to push it out.
final class StandardOutput {
  private var buffer: [UInt8] = []
  private var lastFlush = ContinuousClock.now
  private var lastByte = UInt8(ascii: "\n")
  private static let capacity = 1 << 16
  let isTerminal = Terminal.isTerminal(STDOUT_FILENO)

  /// - Throws: `BrokenPipe` when the reader is gone, `FileError` when the bytes cannot be written.
  func write(_ bytes: some Collection<UInt8>) throws {
    guard !bytes.isEmpty else { return }
    buffer.append(contentsOf: bytes)
    lastByte = buffer[buffer.count - 1]
    if isTerminal || buffer.count >= Self.capacity || lastFlush.duration(to: .now) > .milliseconds(100) {
      try flush()
    }
  }

  func write(_ text: String) throws { try write(text.utf8) }

  /// Ends the line where a terminal's prompt would otherwise follow the text.
  func endLineOnTerminal() throws {
    if isTerminal, lastByte != UInt8(ascii: "\n") { try write("\n") }
  }

  /// Hands over what is waiting.
  func flush() throws {
    lastFlush = .now
    let bytes = buffer
    buffer.removeAll(keepingCapacity: true)
    var done = 0
    while done < bytes.count {
      let count = bytes[done...].withUnsafeBytes { Foundation.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      let code = errno
      if count >= 0 {
        done += count
      } else if code == EPIPE {
        throw BrokenPipe()
      } else if code == EAGAIN {
        // Somebody made the pipe non-blocking: wait until it takes more.
        var wait = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
        poll(&wait, 1, 1000)
      } else if code != EINTR {
        throw FileError.system("write", "standard output", code: code)
      }
    }
  }
}

/// Messages; that they cannot be shown is no reason to stop.
enum StandardError {
  static func write(_ text: String) {
    let bytes = Array(text.utf8)
    var done = 0
    while done < bytes.count {
      let count = bytes[done...].withUnsafeBytes { Foundation.write(STDERR_FILENO, $0.baseAddress, $0.count) }
      if count <= 0, errno != EINTR { return }
      done += max(0, count)
    }
  }
}

/// A file, pipe or standard input ("-") read in blocks, so that its size does not matter.
final class InputReader {
  /// For messages.
  let name: String
  /// Bytes of a regular file; nil for what has no size.
  let size: Int?
  /// Bytes read so far.
  private(set) var position = 0
  private let descriptor: Int32

  /// - Throws: `FileError` when there is nothing to read at the path.
  init(_ path: String) throws {
    name = path == "-" ? "standard input" : path
    descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      let code = errno
      try InterruptFlag().check()
      throw FileError.system("read", name, code: code)
    }
    var status = stat()
    let isRegular = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    size = isRegular && status.st_size > 0 ? Int(status.st_size) : nil
  }

  deinit {
    if descriptor != STDIN_FILENO { close(descriptor) }
  }

  /// Everything up to the end, which may be nothing.
  /// - Throws: `FileError`; `Interrupted` when a signal ends the wait.
  func readToEnd() throws -> [UInt8] {
    var bytes: [UInt8] = []
    while true {
      let before = bytes.count
      do {
        bytes += try read(max(1 << 16, before))
      } catch DataError.empty {
        return []
      }
      if bytes.count == before { return bytes }
    }
  }

  /// The next bytes: as many as asked, fewer only at the end, however a pipe delivers them. So results do not depend on it.
  /// - Throws: `FileError`; `Interrupted` when a signal ends the wait; `DataError.empty` when there never was a byte.
  func read(_ count: Int) throws -> [UInt8] {
    var done = 0
    var failure: Int32?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      while done < count {
        if InterruptFlag().isSet { break }
        let got = Foundation.read(descriptor, buffer.baseAddress.map { $0 + done }, count - done)
        if got == 0 { break }
        if got > 0 {
          done += got
        } else if errno != EINTR {
          failure = errno
          break
        }
      }
      initialized = done
    }
    if let failure { throw FileError.system("read", name, code: failure) }
    try InterruptFlag().check()
    position += done
    if position == 0 { throw DataError.empty(path: name) }
    return bytes
  }
}
