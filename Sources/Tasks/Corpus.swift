import Foundation

/// Documents read from a file, a folder or standard input.
public struct Corpus: Sendable {
  /// A file in a folder that gave no document, and why.
  public struct Skipped: Equatable, Sendable {
    public let path: String
    public let reason: String
  }

  /// The documents, in the order of their paths.
  public var documents: [Document]
  /// What was read, for messages.
  public var source: String
  /// Files of a folder that gave no document.
  public var skipped: [Skipped]

  /// A corpus made in memory.
  public init(documents: [Document], source: String, skipped: [Skipped] = []) {
    self.documents = documents
    self.source = source
    self.skipped = skipped
  }

  /// Bytes in all documents.
  public var size: Int { documents.reduce(0) { $0 + $1.bytes.count } }

  /// Reads `path`: a file, a folder with everything below it, or standard input when it is "-".
  ///
  /// In a folder, hidden names are left out, files are read in the order of their paths' bytes, symbolic links to
  /// folders are not
  /// followed, and a file that several names lead to is read once. What cannot be read is listed in `skipped`.
  /// - Parameter separator: text between documents inside one file; it belongs to no document.
  /// - Throws: `DataError` when nothing can be read.
  public static func load(_ path: String, separator: String? = nil) throws -> Corpus {
    if path == "-" { return try readStandardInput(separator: separator) }
    var status = stat()
    guard stat(path, &status) == 0 else {
      throw errno == ENOENT || errno == ENOTDIR
        ? DataError.missing(path: path) : .unreadable(path: path, reason: String(cString: strerror(errno)))
    }
    var corpus = Corpus(documents: [], source: path)
    if status.st_mode & S_IFMT == S_IFDIR {
      try corpus.readFolder(path)
    } else {
      corpus.documents = [Document(name: path, bytes: try FileReading.contents(of: path))]
    }
    return try corpus.separated(by: separator)
  }

  /// Reads standard input (or another open file) to its end.
  /// - Parameter limit: the most bytes to hold in memory.
  /// - Throws: `DataError`.
  public static func readStandardInput(
    separator: String? = nil, limit: Int = .max, descriptor: Int32 = STDIN_FILENO
  ) throws -> Corpus {
    let source = "standard input"
    let bytes = try FileReading.drain(descriptor, name: source, limit: limit)
    return try Corpus(documents: [Document(name: source, bytes: bytes)], source: source).separated(by: separator)
  }

  /// Refuses a corpus that cannot fill one sequence.
  /// - Throws: `DataError.tooShort` naming the source, its size and what is needed.
  public func require(bytes needed: Int) throws {
    if size < needed { throw DataError.tooShort(path: source, size: size, needed: needed) }
  }

  private func separated(by separator: String?) throws -> Corpus {
    var result = self
    if let separator {
      guard !separator.isEmpty else {
        throw DataError.invalid(setting: "the document separator", reason: "is empty; leave it out or give a text")
      }
      result.documents = documents.flatMap { $0.split(by: Array(separator.utf8)) }
    }
    result.documents.removeAll { $0.bytes.isEmpty }
    if result.documents.isEmpty {
      if let first = skipped.first, skipped.contains(where: { $0.reason != FileReading.emptyReason }) {
        throw DataError.unreadable(
          path: source, reason: "no file in it can be read; first, \(first.path): \(first.reason)")
      }
      throw DataError.empty(path: source)
    }
    return result
  }

  private mutating func readFolder(_ folder: String) throws {
    var seen: Set<FileReading.Identity> = []
    var files: [(path: String, isLink: Bool)] = []
    try FileReading.list(folder, into: &files, skipped: &skipped)
    files.sort { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
    var found: [Document] = []
    // Links after files, so that a file goes under its own name.
    for (path, _) in files.filter({ !$0.isLink }) + files.filter(\.isLink) {
      do {
        guard let identity = try FileReading.identity(ofRegularFile: path), seen.insert(identity).inserted else {
          continue
        }
        let bytes = try FileReading.contents(of: path)
        if bytes.isEmpty {
          skipped.append(Skipped(path: path, reason: FileReading.emptyReason))
        } else {
          found.append(Document(name: path, bytes: bytes))
        }
      } catch DataError.unreadable(_, let reason) {
        skipped.append(Skipped(path: path, reason: reason))
      }
    }
    documents = found.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
  }
}

extension Document {
  /// The pieces between separators, numbered from 1; empty ones are left out.
  func split(by separator: [UInt8]) -> [Document] {
    let ranges = bytes.withUnsafeBytes { buffer -> [Range<Int>] in
      var ranges: [Range<Int>] = []
      var start = 0
      var position = 0
      while let found = find(separator, in: buffer, from: position) {
        ranges.append(start..<found)
        start = found + separator.count
        position = start
      }
      return ranges + [start..<buffer.count]
    }
    return ranges.filter { !$0.isEmpty }.enumerated().map { number, range in
      let base = bytes.startIndex
      return Document(name: "\(name)#\(number + 1)", bytes: bytes[base + range.lowerBound..<base + range.upperBound])
    }
  }

  private func find(_ separator: [UInt8], in buffer: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard let base = buffer.baseAddress, let first = separator.first else { return nil }
    var position = start
    while position + separator.count <= buffer.count {
      let candidates = buffer.count - separator.count + 1 - position
      guard let hit = memchr(base + position, Int32(first), candidates) else { return nil }
      position = UnsafeRawPointer(hit) - base
      if memcmp(base + position, separator, separator.count) == 0 { return position }
      position += 1
    }
    return nil
  }
}
