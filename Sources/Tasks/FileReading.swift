import Foundation

/// How files, folders and pipes are read.
enum FileReading {
  static let emptyReason = "it is empty"

  /// What makes two paths one file.
  struct Identity: Hashable {
    let device: UInt64
    let node: UInt64
  }

  /// A file's bytes: mapped for regular files, read to the end for pipes and devices.
  static func contents(of path: String) throws -> Data {
    let descriptor = try opened(path)
    var status = stat()
    let isRegular = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    // The kernel's virtual files say they are empty, and must be read to be known.
    if isRegular, status.st_size > 0 {
      close(descriptor)
      do {
        return try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
      } catch {
        throw DataError.unreadable(path: path, reason: error.localizedDescription)
      }
    }
    defer { close(descriptor) }
    return try drain(descriptor, name: path, limit: .max)
  }

  /// Reads an open file to its end, in chunks.
  static func drain(_ descriptor: Int32, name: String, limit: Int) throws -> Data {
    var data = Data()
    let chunkSize = 1 << 20
    let chunk = UnsafeMutableRawPointer.allocate(byteCount: chunkSize, alignment: 16)
    defer { chunk.deallocate() }
    while true {
      let count = read(descriptor, chunk, chunkSize)
      if count == 0 { return data }
      if count < 0 {
        if errno == EINTR { continue }
        throw DataError.unreadable(path: name, reason: String(cString: strerror(errno)))
      }
      if count > limit - data.count { throw DataError.tooLarge(path: name, limit: limit) }
      data.append(chunk.assumingMemoryBound(to: UInt8.self), count: count)
    }
  }

  /// The regular files below `folder`, hidden names left out. Folders that cannot be listed go to `skipped`, the
  /// topmost is an error.
  static func list(
    _ folder: String, into files: inout [(path: String, isLink: Bool)], skipped: inout [Corpus.Skipped]
  ) throws {
    var waiting = [folder]
    while let current = waiting.popLast() {
      guard let handle = opendir(current) else {
        let reason = String(cString: strerror(errno))
        if current == folder { throw DataError.unreadable(path: folder, reason: reason) }
        skipped.append(Corpus.Skipped(path: current, reason: reason))
        continue
      }
      defer { closedir(handle) }
      while let entry = readdir(handle) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
          pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name.hasPrefix(".") { continue }
        let path = current.hasSuffix("/") ? current + name : current + "/" + name
        var status = stat()
        guard lstat(path, &status) == 0 else { continue }
        switch status.st_mode & S_IFMT {
        case S_IFDIR: waiting.append(path)
        case S_IFREG: files.append((path, false))
        case S_IFLNK: files.append((path, true))
        default: skipped.append(Corpus.Skipped(path: path, reason: "it is not a regular file"))
        }
      }
    }
  }

  /// Which file a path leads to; nil when that is a folder.
  /// - Throws: `DataError.unreadable` when it leads nowhere or to something else.
  static func identity(ofRegularFile path: String) throws -> Identity? {
    var status = stat()
    guard stat(path, &status) == 0 else {
      throw DataError.unreadable(path: path, reason: String(cString: strerror(errno)))
    }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return Identity(device: UInt64(status.st_dev), node: UInt64(status.st_ino))
    case S_IFDIR: return nil
    default: throw DataError.unreadable(path: path, reason: "it is not a regular file")
    }
  }

  private static func opened(_ path: String) throws -> Int32 {
    while true {
      let descriptor = open(path, O_RDONLY | O_CLOEXEC)
      if descriptor >= 0 { return descriptor }
      let code = errno
      if code == EINTR { continue }
      if code == ENOENT { throw DataError.missing(path: path) }
      throw DataError.unreadable(path: path, reason: String(cString: strerror(code)))
    }
  }
}
