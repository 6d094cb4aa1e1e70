import Foundation

/// Holds a folder for one process, so that two trainings cannot write into it together.
///
/// It is an advisory lock (`flock`) on the file `.lock` in the folder: the system releases it when the process ends,
/// however it
/// ends, so a lock is never left behind. Lock the folder above an `AtomicFolder`, not the one that is exchanged.
public final class FolderLock: Sendable {
  /// The locked folder.
  public let folder: String
  private let descriptor: Int32

  /// Takes the lock, or throws at once when another process has it.
  /// - Throws: `FileError` of kind `locked(by:)` naming the process that holds the folder.
  public init(_ folder: String) throws {
    self.folder = folder
    let path = PathQuery.join(folder, ".lock")
    let number = try Descriptor.retrying("lock", path) { open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666) }
    var code: Int32 = 0
    repeat {
      code = flock(number, LOCK_EX | LOCK_NB) == 0 ? 0 : errno
    } while code == EINTR
    if code != 0 {
      let holder = FolderLock.holder(number)
      close(number)
      throw code == EWOULDBLOCK
        ? FolderLock.error(folder, holder: holder) : FileError.system("lock", path, code: code)
    }
    descriptor = number
    // The number is only for the message to others; the lock holds without it.
    ftruncate(number, 0)
    let text = "\(getpid())\n"
    _ = text.withCString { pwrite(number, $0, strlen($0), 0) }
  }

  deinit {
    ftruncate(descriptor, 0)
    close(descriptor)
  }

  private static func holder(_ descriptor: Int32) -> Int32? {
    var bytes = [UInt8](repeating: 0, count: 16)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    guard count > 0 else { return nil }
    return Int32(String(decoding: bytes[..<count], as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines))
  }

  private static func error(_ folder: String, holder: Int32?) -> FileError {
    let who = holder.map { "process \($0)" } ?? "another process"
    return FileError(
      path: folder, operation: "lock", kind: .locked(by: holder), reason: "\(who) is working in this folder",
      advice: "wait for it, stop it, or give another folder")
  }
}
