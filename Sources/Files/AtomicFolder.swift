import Foundation

/// Writes a folder of files whole or not at all.
///
/// The files are made in a hidden folder beside the target and forced to the disk. Then
/// 1. with no old folder, one rename puts the new one in place;
/// 2. with an old one, the two names are exchanged in one step (Linux's `renameat2`), and the old files, now under the
///    hidden name, are deleted;
/// 3. where a file system cannot exchange, the old folder is renamed to `.NAME.previous`, the new one is renamed into
///    place, and the old one is deleted.
///
/// So at any moment of a kill there is a whole folder, old or new: under its own name in cases 1 and 2, and in case 3
/// for
/// a moment only as `.NAME.previous`. `current(_:)` finds it without touching anything, and `recover(_:)`
/// (for the one writer, holding a `FolderLock` on the folder above) puts it back and clears what a killed writer left.
/// A reader that opened the old files before the exchange may go on reading them; one that finds a file gone in the
/// middle of opening a folder opens it again.
public enum AtomicFolder {
  /// How an existing folder is replaced; `twoRenames` is there to test the second way on any file system.
  enum Replacement { case exchangeIfPossible, twoRenames }

  /// Replaces or creates the folder at `path` with what `body` puts into the folder whose path it is given.
  /// When `body` throws, the old folder is untouched.
  /// - Throws: `FileError`, or what `body` throws.
  public static func write(to path: String, _ body: (_ folder: String) throws -> Void) throws {
    try write(to: path, replacement: .exchangeIfPossible, body)
  }

  static func write(to path: String, replacement: Replacement, _ body: (String) throws -> Void) throws {
    try recover(path)
    if let old = PathQuery.status(path), old.st_mode & S_IFMT != S_IFDIR {
      throw FileError.system("write the folder", path, code: ENOTDIR)
    }
    let (parent, name) = PathQuery.split(path)
    let partial = PathQuery.join(parent, AtomicFile.partialName(for: name))
    try Descriptor.retrying("make the folder", path) { mkdir(partial, 0o777) }
    do {
      try body(partial)
      try synchronizeTree(partial)
      try put(partial, at: path, replacement)
    } catch {
      try? FileManager.default.removeItem(atPath: partial)
      throw renamed(error, from: partial, to: path)
    }
  }

  /// The path under which the whole folder can be read now: `path`, or the old folder of an interrupted replacement.
  public static func current(_ path: String) -> String {
    let previous = previousPath(path)
    return !PathQuery.isFolder(path) && PathQuery.isFolder(previous) ? previous : path
  }

  /// Finishes what a killed writer left undone: puts the old folder back when the new one never came, and deletes
  /// leftovers.
  /// For the writer only; it holds the lock.
  public static func recover(_ path: String) throws {
    let (parent, name) = PathQuery.split(path)
    guard PathQuery.isFolder(parent) else { return }
    let previous = previousPath(path)
    if PathQuery.isFolder(previous) {
      if PathQuery.status(path) == nil {
        try Descriptor.retrying("restore", path) { rename(previous, path) }
        try Descriptor.synchronizeFolder(parent)
      } else {
        try remove(previous)
      }
    }
    let prefix = "." + name + AtomicFile.marker
    for leftover in try PathQuery.names(in: parent) where leftover.hasPrefix(prefix) && AtomicFile.isAbandoned(leftover)
    {
      try remove(PathQuery.join(parent, leftover))
    }
  }

  private static func put(_ partial: String, at path: String, _ replacement: Replacement) throws {
    let (parent, _) = PathQuery.split(path)
    if PathQuery.status(path) == nil {
      try Descriptor.retrying("put in place", path) { rename(partial, path) }
      try Descriptor.synchronizeFolder(parent)
    } else if replacement == .exchangeIfPossible, try exchange(partial, path) {
      try Descriptor.synchronizeFolder(parent)
      // The new folder is in place; old files that will not go are no reason to call the write failed.
      try? remove(partial)
    } else {
      let previous = previousPath(path)
      try Descriptor.retrying("set aside", path) { rename(path, previous) }
      do {
        try Descriptor.retrying("put in place", path) { rename(partial, path) }
      } catch {
        rename(previous, path)
        throw error
      }
      try Descriptor.synchronizeFolder(parent)
      try? remove(previous)
    }
  }

  private typealias RenameAt2 =
    @convention(c) (Int32, UnsafePointer<CChar>, Int32, UnsafePointer<CChar>, UInt32) -> Int32

  /// Swaps two names in one step; false where the system or the file system cannot.
  private static func exchange(_ first: String, _ second: String) throws -> Bool {
    // The C header hides the function from Swift, so it is looked up by name.
    guard let symbol = dlsym(nil, "renameat2") else { return false }
    let function = unsafeBitCast(symbol, to: RenameAt2.self)
    let exchangeFlag: UInt32 = 2
    while true {
      if function(AT_FDCWD, first, AT_FDCWD, second, exchangeFlag) == 0 { return true }
      switch errno {
      case EINTR: continue
      case EINVAL, ENOSYS, EOPNOTSUPP: return false
      default: throw FileError.system("exchange", second, code: errno)
      }
    }
  }

  private static func previousPath(_ path: String) -> String {
    let (parent, name) = PathQuery.split(path)
    return PathQuery.join(parent, ".\(name).previous")
  }

  private static func remove(_ path: String) throws {
    do {
      try FileManager.default.removeItem(atPath: path)
    } catch {
      throw FileError(
        path: path, operation: "delete", kind: .system, reason: error.localizedDescription,
        advice: "delete it by hand")
    }
  }

  /// Forces every file below `folder`, and the folders themselves, to the disk.
  private static func synchronizeTree(_ folder: String) throws {
    for name in try PathQuery.names(in: folder) {
      let path = PathQuery.join(folder, name)
      if PathQuery.isFolder(path) {
        try synchronizeTree(path)
      } else {
        let file = try Descriptor(path, O_RDONLY, operation: "open")
        try file.synchronize()
      }
    }
    try Descriptor.synchronizeFolder(folder)
  }

  private static func renamed(_ error: any Error, from partial: String, to path: String) -> any Error {
    guard let error = error as? FileError, error.path.hasPrefix(partial) else { return error }
    return FileError(
      path: path + error.path.dropFirst(partial.count), operation: error.operation, kind: error.kind,
      reason: error.reason, advice: error.advice)
  }
}
