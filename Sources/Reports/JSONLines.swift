import Foundation

/// What went wrong with a log file.
public struct LogError: Error, Equatable, Sendable, CustomStringConvertible, LocalizedError {
  public let path: String
  public let operation: String
  public let reason: String

  public var description: String { "cannot \(operation) the log \(path): \(reason)" }
  public var errorDescription: String? { description }
}

/// A log to which one JSON object a line is appended.
///
/// Each line goes to the system in one write, so that a killed process leaves whole lines and at most one that was cut
/// by a full disk.
/// Opening the log to resume drops such a line, and those of steps after the checkpoint, by one cut of the file.
public final class JSONLines {
  /// The log's path.
  public let path: String
  private let descriptor: Int32
  private let encoder: JSONEncoder

  /// Opens the log, and makes it where there is none.
  /// - Parameter step: keep only the lines before the first whose "step" is greater; nil keeps all whole lines.
  /// - Throws: `LogError`.
  public init(_ path: String, resumingAfter step: Int? = nil) throws {
    self.path = path
    encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
    if descriptor < 0 { throw LogError(path: path, operation: "open", reason: String(cString: strerror(errno))) }
    do {
      var status = stat()
      // Pipes and devices cannot be read back or cut; they are only appended to.
      guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return }
      let size = try JSONLines.keptSize(descriptor, path, step)
      if ftruncate(descriptor, off_t(size)) != 0 {
        throw LogError(path: path, operation: "cut", reason: String(cString: strerror(errno)))
      }
    } catch {
      close(descriptor)
      throw error
    }
  }

  deinit { close(descriptor) }

  /// Appends one object as a line. Infinities and NaN are written as the texts "inf", "-inf" and "nan".
  /// - Throws: `LogError` when the system refuses; then no part of the line stays.
  public func append(_ entry: some Encodable) throws {
    let line: Data
    do {
      line = try encoder.encode(entry) + [UInt8(ascii: "\n")]
    } catch {
      throw LogError(path: path, operation: "encode a line for", reason: "\(error)")
    }
    let before = lseek(descriptor, 0, SEEK_END)
    try line.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      var done = 0
      while done < bytes.count {
        let count = write(descriptor, base + done, bytes.count - done)
        if count > 0 {
          done += count
        } else if count == 0 || errno != EINTR {
          let reason = String(cString: strerror(count == 0 ? ENOSPC : errno))
          if before >= 0 { ftruncate(descriptor, before) }
          throw LogError(path: path, operation: "write", reason: reason)
        }
      }
    }
  }

  private struct Numbered: Decodable {
    var step: Int?
  }

  /// The bytes to keep: whole lines that are JSON objects, up to the first of a later step.
  private static func keptSize(_ descriptor: Int32, _ path: String, _ step: Int?) throws -> Int {
    // Read through the descriptor: the name could lead elsewhere by now.
    var data = Data()
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = pread(descriptor, &chunk, chunk.count, off_t(data.count))
      if count == 0 { break }
      if count > 0 {
        data.append(contentsOf: chunk[..<count])
      } else if errno != EINTR {
        throw LogError(path: path, operation: "read", reason: String(cString: strerror(errno)))
      }
    }
    var kept = 0
    while let newline = data[kept...].firstIndex(of: UInt8(ascii: "\n")) {
      if let step {
        guard let entry = try? JSONDecoder().decode(Numbered.self, from: data[kept..<newline]) else { break }
        if let number = entry.step, number > step { break }
      }
      kept = newline + 1
    }
    return kept
  }
}
