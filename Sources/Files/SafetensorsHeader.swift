import Foundation

/// The checked header of a safetensors file.
struct SafetensorsHeader {
  /// Larger headers are refused, as the format's own reader does.
  static let largestHeader = 100_000_000
  static let metadataKey = "__metadata__"

  let entries: [SafetensorsFile.Entry]
  let metadata: [String: String]

  /// Checks a whole file's bytes.
  /// - Throws: `FileError` of kind `malformed`.
  init(_ file: UnsafeRawBufferPointer, path: String) throws {
    let header = try Self.headerBytes(file, path)
    let start = 8 + header.count
    let value: JSONValue
    do {
      value = try JSONScanner.parse(header, place: "header")
    } catch let error as JSONError {
      throw FileError.malformed(path, "its header is not valid: \(error.problem)")
    }
    guard case .object(var members) = value else { throw FileError.malformed(path, "its header is not an object") }
    metadata = try Self.metadata(members.removeValue(forKey: Self.metadataKey), path)
    var entries: [SafetensorsFile.Entry] = []
    entries.reserveCapacity(members.count)
    for (name, description) in members {
      entries.append(try Self.entry(name, description, start: start, end: file.count, path))
    }
    // Empty tensors share their start with a neighbour; ordering by end and name too makes the order unique.
    entries.sort {
      ($0.range.lowerBound, $0.range.upperBound, $0.name) < ($1.range.lowerBound, $1.range.upperBound, $1.name)
    }
    try Self.checkCoverage(entries, start: start, end: file.count, path)
    self.entries = entries
  }

  private static func headerBytes(_ file: UnsafeRawBufferPointer, _ path: String) throws -> UnsafeRawBufferPointer {
    guard file.count >= 8 else {
      throw FileError.malformed(path, "it has \(file.count) bytes, too few for a safetensors file")
    }
    let size = UInt64(littleEndian: file.loadUnaligned(as: UInt64.self))
    guard size <= UInt64(largestHeader) else {
      throw FileError.malformed(path, "it claims a header of \(size) bytes; at most \(largestHeader) are allowed")
    }
    guard size <= UInt64(file.count - 8) else {
      throw FileError.malformed(
        path, "it claims a header of \(size) bytes, but only \(file.count - 8) bytes follow",
        advice: "the file is cut short or not a safetensors file")
    }
    let header = UnsafeRawBufferPointer(rebasing: file[8..<8 + Int(size)])
    guard header.first == UInt8(ascii: "{") else {
      throw FileError.malformed(path, "its header does not begin with '{'", advice: "it is not a safetensors file")
    }
    return header
  }

  private static func metadata(_ value: JSONValue?, _ path: String) throws -> [String: String] {
    guard let value else { return [:] }
    guard case .object(let members) = value else {
      throw FileError.malformed(path, "its \(metadataKey) is \(value.kind), not an object")
    }
    return try members.mapValues { member in
      guard case .string(let text) = member else {
        throw FileError.malformed(path, "its \(metadataKey) holds \(member.kind); only texts are allowed")
      }
      return text
    }
  }

  private static func entry(
    _ name: String, _ value: JSONValue, start: Int, end: Int, _ path: String
  ) throws -> SafetensorsFile.Entry {
    let label = "the tensor '\(JSONError.shown(name))'"
    func fail(_ reason: String) -> FileError { FileError.malformed(path, "\(label) \(reason)") }
    guard case .object(let members) = value else { throw fail("is described by \(value.kind), not an object") }
    if let key = members.keys.filter({ !["dtype", "shape", "data_offsets"].contains($0) }).min() {
      throw fail("has the unknown key '\(JSONError.shown(key))'")
    }
    guard let dtype = members["dtype"]?.stringValue else { throw fail("has no dtype") }
    guard let type = SafetensorsType(rawValue: dtype) else {
      throw fail("has the unknown dtype '\(JSONError.shown(dtype))'")
    }
    guard let shape = integers(members["shape"]) else { throw fail("has no shape of whole numbers") }
    guard let offsets = integers(members["data_offsets"]), offsets.count == 2 else {
      throw fail("has no data_offsets of two whole numbers")
    }
    guard let size = type.bytes(of: shape) else { throw fail("has the impossible shape \(shape.prefix(16))") }
    // Both offsets are checked against the file before anything is added to them.
    guard offsets[0] <= offsets[1], offsets[1] <= end - start else {
      throw fail("lies at bytes \(offsets[0]) to \(offsets[1]), but the file has \(end - start) bytes of tensors")
    }
    guard offsets[1] - offsets[0] == size else {
      throw fail("needs \(size) bytes for \(dtype) \(shape.prefix(16)), but has \(offsets[1] - offsets[0])")
    }
    return SafetensorsFile.Entry(name: name, type: type, shape: shape, range: start + offsets[0]..<start + offsets[1])
  }

  /// A list of numbers that are whole and not negative.
  private static func integers(_ value: JSONValue?) -> [Int]? {
    guard let elements = value?.arrayValue else { return nil }
    let numbers = elements.compactMap { element in element.intValue.flatMap { $0 >= 0 ? $0 : nil } }
    return numbers.count == elements.count ? numbers : nil
  }

  private static func checkCoverage(
    _ entries: [SafetensorsFile.Entry], start: Int, end: Int, _ path: String
  ) throws {
    var position = start
    for entry in entries {
      let name = JSONError.shown(entry.name)
      if entry.range.lowerBound < position {
        throw FileError.malformed(path, "the tensor '\(name)' overlaps the one before it")
      }
      if entry.range.lowerBound > position {
        throw FileError.malformed(
          path, "there is a hole of \(entry.range.lowerBound - position) bytes before the tensor '\(name)'")
      }
      position = entry.range.upperBound
    }
    if position != end { throw FileError.malformed(path, "\(end - position) bytes at its end belong to no tensor") }
  }
}
