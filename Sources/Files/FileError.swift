import Foundation

/// What went wrong with a file: which one, during what, why, and what to do about it.
public struct FileError: Error, Equatable, Sendable, CustomStringConvertible, LocalizedError {
  /// The sort of failure, for callers that act on it.
  public enum Kind: Equatable, Sendable {
    /// There is nothing at the path.
    case missing
    /// The system refuses access.
    case notPermitted
    /// The disk or the quota is full.
    case diskFull
    /// There is something at the path, but not a regular file or not a folder, as was needed.
    case wrongKind
    /// Another process holds the folder; its process number where known.
    case locked(by: Int32?)
    /// The contents are not what the format asks for.
    case malformed
    /// Anything else the system reports.
    case system
  }

  /// The file or folder.
  public let path: String
  /// What was being done, as "write" or "read the header of".
  public let operation: String
  /// The sort of failure.
  public let kind: Kind
  /// Why it failed, in words.
  public let reason: String
  /// What the user can do; empty where nothing useful can be said.
  public let advice: String

  package init(path: String, operation: String, kind: Kind, reason: String, advice: String = "") {
    self.path = path
    self.operation = operation
    self.kind = kind
    self.reason = reason
    self.advice = advice
  }

  /// The error for a system call that set `errno` to `code`.
  package static func system(_ operation: String, _ path: String, code: Int32) -> FileError {
    let (kind, advice) = diagnosis(code)
    return FileError(
      path: path, operation: operation, kind: kind, reason: String(cString: strerror(code)), advice: advice)
  }

  /// The error for contents that break the rules of their format.
  package static func malformed(
    _ path: String, _ reason: String,
    advice: String = "the file is damaged, edited, or of another kind; copy or make it again"
  ) -> FileError {
    FileError(path: path, operation: "read", kind: .malformed, reason: reason, advice: advice)
  }

  private static func diagnosis(_ code: Int32) -> (Kind, String) {
    switch code {
    case ENOENT: (.missing, "check the spelling of the path")
    case EACCES, EPERM: (.notPermitted, "check the permissions of the file and of the folders above it")
    case EROFS: (.notPermitted, "the file system is read-only; choose another folder")
    case ENOSPC: (.diskFull, "the disk is full; free some space or choose another folder, nothing was replaced")
    case EDQUOT: (.diskFull, "your disk quota is used up; free some space, nothing was replaced")
    case EFBIG: (.diskFull, "the file would pass the size limit of this file system or process, nothing was replaced")
    case EISDIR: (.wrongKind, "a file was expected where there is a folder")
    case ENOTDIR: (.wrongKind, "a folder was expected where there is a file")
    case EMFILE, ENFILE: (.system, "too many files are open; raise the limit with `ulimit -n`")
    case ENOMEM: (.system, "there is not enough memory or address space to map the file")
    default: (.system, "")
    }
  }

  /// One sentence: operation, path, reason and advice.
  public var description: String {
    "cannot \(operation) \(path): \(reason)" + (advice.isEmpty ? "" : " (\(advice))")
  }

  /// The same sentence, for code that prints `localizedDescription`.
  public var errorDescription: String? { description }
}
