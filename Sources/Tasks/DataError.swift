import Foundation

/// What is wrong with the data someone wants to train on or score: which data, what was needed, what to do.
public enum DataError: Error, Equatable, Sendable, CustomStringConvertible, LocalizedError {
  /// Nothing lies at the path.
  case missing(path: String)
  /// The file, folder or pipe holds no bytes.
  case empty(path: String)
  /// The system refuses to read.
  case unreadable(path: String, reason: String)
  /// There is less data than one sequence takes.
  case tooShort(path: String, size: Int, needed: Int)
  /// There is more data than was allowed.
  case tooLarge(path: String, limit: Int)
  /// A setting cannot be; says which and why.
  case invalid(setting: String, reason: String)
  /// A saved cursor belongs to other data or other settings.
  case foreignCursor(reason: String)

  public var description: String {
    switch self {
    case .missing(let path): "there is no \(path); check the spelling of the path"
    case .empty(let path): "\(path) holds no bytes to read; give a file or folder with text in it"
    case .unreadable(let path, let reason): "cannot read \(path): \(reason)"
    case .tooShort(let path, let size, let needed):
      "\(path) holds \(size) bytes, but one sequence needs \(needed); give more text or a shorter sequence length"
    case .tooLarge(let path, let limit):
      "\(path) holds more than \(limit) bytes; write it to a file and give that, or raise the limit"
    case .invalid(let setting, let reason): "\(setting) \(reason)"
    case .foreignCursor(let reason):
      "the saved place in the data does not fit: \(reason); resume with the data and settings of the first run"
    }
  }

  public var errorDescription: String? { description }
}
