import Foundation

/// A whole file mapped read-only into memory: pages are read when touched, and shared with whoever else maps it.
///
/// The bytes are valid while this object lives. Cutting the file shorter while it is mapped makes the
/// system kill the reader, so writers replace files (see `AtomicFile`) and never edit them in place.
public final class FileMapping: @unchecked Sendable {
  // Unchecked because of the raw pointer: the memory is read-only and lives as long as the object.

  /// The file's path, for messages.
  public let path: String
  /// The file's bytes; valid while the object lives.
  public let bytes: UnsafeRawBufferPointer

  /// Maps the file.
  /// - Throws: `FileError` when it is missing, unreadable, not a regular file, or cannot be mapped.
  public init(_ path: String) throws {
    let file = try Descriptor(path, O_RDONLY | O_NONBLOCK, operation: "read")
    let status = try file.status()
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(
        path: path, operation: "read", kind: .wrongKind, reason: "it is not a regular file", advice: "give a file")
    }
    self.path = path
    let size = Int(status.st_size)
    if size == 0 {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    let start = mmap(nil, size, PROT_READ, MAP_PRIVATE, file.number, 0)
    guard let start, start != MAP_FAILED else { throw FileError.system("map", path, code: errno) }
    bytes = UnsafeRawBufferPointer(start: start, count: size)
  }

  deinit {
    if let base = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: base), bytes.count) }
  }
}
