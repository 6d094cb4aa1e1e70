import Foundation

/// Writes a file whole or not at all.
///
/// The bytes go to a hidden file beside the target, which is forced to the disk and then renamed over it. Whoever opens
/// the path,
/// at whatever moment the writer is killed, finds the old file or the new one. A killed writer can leave its hidden
/// file behind; `removeLeftovers(in:)` clears those.
public enum AtomicFile {
  static let marker = ".partial-"

  /// Where the bytes of an atomic write go.
  public struct Sink: ~Copyable {
    let descriptor: Descriptor
    /// Bytes written so far.
    public private(set) var count = 0

    init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }

    /// Appends bytes.
    /// - Throws: `FileError`, of kind `diskFull` when there is no room.
    public mutating func write(_ bytes: UnsafeRawBufferPointer) throws {
      try descriptor.write(bytes)
      count += bytes.count
    }

    /// Appends bytes.
    public mutating func write(_ bytes: some ContiguousBytes) throws {
      try bytes.withUnsafeBytes { try write($0) }
    }
  }

  /// Replaces or creates the file at `path` with what `body` writes. When `body` throws, the old file is untouched.
  /// A symbolic link is followed, and the file it names is replaced; the old file's permissions are kept.
  /// - Throws: `FileError`, or what `body` throws.
  public static func write(to path: String, _ body: (inout Sink) throws -> Void) throws {
    let target = resolved(path)
    var permissions: mode_t?
    if let old = PathQuery.status(target) {
      guard old.st_mode & S_IFMT == S_IFREG else {
        throw FileError(
          path: path, operation: "write", kind: .wrongKind, reason: "there is something that is not a regular file",
          advice: "choose another path")
      }
      permissions = old.st_mode & 0o7777
    }
    let (folder, name) = PathQuery.split(target)
    let partial = PathQuery.join(folder, partialName(for: name))
    do {
      try fill(partial, permissions: permissions, body)
      try Descriptor.retrying("replace", path) { rename(partial, target) }
    } catch {
      unlink(partial)
      throw renamed(error, from: partial, to: path)
    }
    try Descriptor.synchronizeFolder(folder)
  }

  /// Replaces or creates the file at `path` with `bytes`.
  public static func write(_ bytes: some ContiguousBytes, to path: String) throws {
    try write(to: path) { sink in try sink.write(bytes) }
  }

  /// Removes hidden partial files of dead writers in `folder`. Call it while holding the folder's `FolderLock`.
  public static func removeLeftovers(in folder: String) throws {
    for name in try PathQuery.names(in: folder) where isAbandoned(name) {
      let path = PathQuery.join(folder, name)
      if !PathQuery.isFolder(path) { unlink(path) }
    }
  }

  private static func fill(
    _ partial: String, permissions: mode_t?, _ body: (inout Sink) throws -> Void
  ) throws {
    let descriptor = try Descriptor(partial, O_WRONLY | O_CREAT | O_EXCL, operation: "write")
    if let permissions {
      let number = descriptor.number
      try Descriptor.retrying("set the permissions of", partial) { fchmod(number, permissions) }
    }
    var sink = Sink(descriptor)
    try body(&sink)
    try sink.descriptor.synchronize()
  }

  /// The path behind symbolic links; a path to nothing stays as it is.
  private static func resolved(_ path: String) -> String {
    guard let real = realpath(path, nil) else { return path }
    defer { free(real) }
    return String(cString: real)
  }

  /// Users know the path they gave, not the hidden one.
  private static func renamed(_ error: any Error, from partial: String, to path: String) -> any Error {
    guard let error = error as? FileError, error.path == partial else { return error }
    return FileError(
      path: path, operation: error.operation, kind: error.kind, reason: error.reason, advice: error.advice)
  }

  /// A hidden name, unique to this write, that tells which process makes it.
  static func partialName(for name: String) -> String {
    // The system allows names of 255 bytes; a long name is cut so that the hidden one fits.
    let shown = String(decoding: name.utf8.prefix(180), as: UTF8.self)
    return ".\(shown)\(marker)\(getpid())-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
  }

  /// True for a hidden partial name whose process is gone.
  static func isAbandoned(_ name: String) -> Bool {
    guard name.hasPrefix("."), let range = name.range(of: marker, options: .backwards) else { return false }
    guard let process = Int32(name[range.upperBound...].prefix { $0 != "-" }) else { return false }
    return process != getpid() && !PathQuery.isAlive(process)
  }
}
