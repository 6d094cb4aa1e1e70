import Foundation

/// An open file descriptor that closes itself, with calls that carry on after a signal.
package struct Descriptor: ~Copyable {
  package let number: Int32
  package let path: String

  /// Opens `path`, never handing the descriptor on to child processes.
  /// - Throws: `FileError` naming `operation`.
  package init(_ path: String, _ flags: Int32, mode: mode_t = 0o666, operation: String) throws {
    number = try Descriptor.retrying(operation, path) { open(path, flags | O_CLOEXEC, mode) }
    self.path = path
  }

  deinit { close(number) }

  /// Repeats `call` while a signal interrupts it; throws when it returns -1 for another reason.
  @discardableResult
  package static func retrying<Result: SignedInteger>(
    _ operation: String, _ path: String, _ call: () -> Result
  ) throws -> Result {
    while true {
      let result = call()
      if result != -1 { return result }
      let code = errno
      if code != EINTR { throw FileError.system(operation, path, code: code) }
    }
  }

  /// Writes every byte, however many calls the system makes of it. Writing nothing is no error.
  package borrowing func write(_ bytes: UnsafeRawBufferPointer) throws {
    guard let base = bytes.baseAddress else { return }
    var done = 0
    while done < bytes.count {
      // Linux moves at most 2^31 - 4096 bytes a call; smaller pieces keep signals prompt.
      let size = min(bytes.count - done, 1 << 26)
      let written = try Descriptor.retrying("write", path) { Foundation.write(number, base + done, size) }
      if written == 0 { throw FileError.system("write", path, code: ENOSPC) }
      done += written
    }
  }

  /// Waits until the bytes are on the disk, so that a power cut after a rename cannot leave an empty file.
  package borrowing func synchronize() throws {
    while fsync(number) == -1 {
      let code = errno
      // Some file systems have nothing to synchronise for folders, and say so.
      if code == EINVAL || code == EROFS { return }
      if code != EINTR { throw FileError.system("write to the disk", path, code: code) }
    }
  }

  /// What the system knows of the open file.
  package borrowing func status() throws -> stat {
    var status = stat()
    try Descriptor.retrying("examine", path) { fstat(number, &status) }
    return status
  }

  /// Makes the names inside a folder durable: a rename lives in the folder, not in the file.
  package static func synchronizeFolder(_ path: String) throws {
    let folder = try Descriptor(path, O_RDONLY | O_DIRECTORY, operation: "open the folder")
    try folder.synchronize()
  }
}

/// Small questions about paths.
package enum PathQuery {
  /// What is at `path`; nil when there is nothing. Follows symbolic links.
  package static func status(_ path: String) -> stat? {
    var status = stat()
    return stat(path, &status) == 0 ? status : nil
  }

  /// True for an existing folder.
  package static func isFolder(_ path: String) -> Bool {
    status(path).map { $0.st_mode & S_IFMT == S_IFDIR } ?? false
  }

  /// The folder that holds `path`, and the name in it. Trailing slashes are ignored.
  package static func split(_ path: String) -> (folder: String, name: String) {
    var trimmed = Substring(path)
    while trimmed.count > 1, trimmed.last == "/" { trimmed.removeLast() }
    guard let slash = trimmed.lastIndex(of: "/") else { return (".", String(trimmed)) }
    let folder = trimmed[..<slash]
    return (folder.isEmpty ? "/" : String(folder), String(trimmed[trimmed.index(after: slash)...]))
  }

  /// `folder`/`name`.
  package static func join(_ folder: String, _ name: String) -> String {
    folder.hasSuffix("/") ? folder + name : folder + "/" + name
  }

  /// The names in a folder, hidden ones too, sorted.
  package static func names(in folder: String) throws -> [String] {
    guard let handle = opendir(folder) else { throw FileError.system("list the folder", folder, code: errno) }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// True where a process with this number exists, whoever owns it.
  package static func isAlive(_ process: Int32) -> Bool {
    kill(process, 0) == 0 || errno == EPERM
  }
}
