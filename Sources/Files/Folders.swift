import Foundation

/// Makes folders.
public enum Folders {
  /// Makes a folder and those above it that are missing.
  /// - Throws: `FileError` naming the first one that could not be made.
  public static func make(_ path: String) throws {
    if path.isEmpty || PathQuery.isFolder(path) { return }
    let (parent, _) = PathQuery.split(path)
    if parent != path { try make(parent) }
    if mkdir(path, 0o777) == 0 { return }
    let code = errno
    if code == EEXIST && PathQuery.isFolder(path) { return }
    throw FileError.system("make the folder", path, code: code)
  }
}
