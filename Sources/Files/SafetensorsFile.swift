import Foundation

/// The element types of the safetensors format, under the format's own names.
public enum SafetensorsType: String, Sendable, CaseIterable {
  case float64 = "F64"
  case float32 = "F32"
  case float16 = "F16"
  case bfloat16 = "BF16"
  case float8e4m3 = "F8_E4M3"
  case float8e5m2 = "F8_E5M2"
  case int64 = "I64"
  case int32 = "I32"
  case int16 = "I16"
  case int8 = "I8"
  case uint64 = "U64"
  case uint32 = "U32"
  case uint16 = "U16"
  case uint8 = "U8"
  case bool = "BOOL"

  /// Bytes an element takes.
  public var size: Int {
    switch self {
    case .float64, .int64, .uint64: 8
    case .float32, .int32, .uint32: 4
    case .float16, .bfloat16, .int16, .uint16: 2
    case .float8e4m3, .float8e5m2, .int8, .uint8, .bool: 1
    }
  }

  /// Bytes that a tensor of this type and shape takes; nil when a size is negative or the product overflows.
  public func bytes(of shape: [Int]) -> Int? {
    var total = size
    for length in shape {
      guard length >= 0 else { return nil }
      let (product, overflow) = total.multipliedReportingOverflow(by: length)
      if overflow { return nil }
      total = product
    }
    return total
  }
}

/// A safetensors file mapped into memory: named tensors, found without reading them.
///
/// The layout is 8 bytes of little-endian header size, a JSON header, and the tensors' bytes. The file is taken
/// for hostile: nothing is reachable before the whole header has been checked (size, JSON without repeated keys, known
/// types, products of shapes without overflow, byte ranges that fill the rest of the file without holes or overlaps).
public final class SafetensorsFile: Sendable {
  /// One tensor of a file.
  public struct Entry: Equatable, Sendable {
    /// The tensor's name, unique in the file.
    public let name: String
    /// The type of its elements.
    public let type: SafetensorsType
    /// The sizes of its dimensions, outermost first; empty for a scalar.
    public let shape: [Int]
    /// Where its bytes lie in the file. They may start at any address: read them with unaligned loads or copy them.
    public let range: Range<Int>

    /// The element type under the format's own name, such as "F32".
    public var dtype: String { type.rawValue }
    /// Number of elements.
    public var count: Int { range.count / type.size }
  }

  /// The file's path, for messages.
  public let path: String
  /// The tensors in the order of their bytes.
  public let entries: [Entry]
  /// The texts of the header's `__metadata__`.
  public let metadata: [String: String]
  /// The map behind the tensors.
  public let mapping: FileMapping
  private let indices: [String: Int]

  /// Maps a file and checks its header.
  /// - Throws: `FileError`: the file cannot be read, or is malformed, saying how.
  public init(_ path: String) throws {
    self.path = path
    mapping = try FileMapping(path)
    let header = try SafetensorsHeader(mapping.bytes, path: path)
    entries = header.entries
    metadata = header.metadata
    indices = Dictionary(uniqueKeysWithValues: header.entries.enumerated().map { ($1.name, $0) })
  }

  /// The tensor with this name; nil when there is none.
  public func entry(_ name: String) -> Entry? {
    indices[name].map { entries[$0] }
  }

  /// The bytes of a tensor of this file, valid while this object (or its `mapping`) lives.
  public func bytes(of entry: Entry) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: mapping.bytes[entry.range.clamped(to: 0..<mapping.bytes.count)])
  }

  /// Lends the bytes of a tensor; the file stays mapped during the call.
  public func withBytes<Result>(
    of entry: Entry, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) rethrows -> Result {
    try withExtendedLifetime(self) { try body(bytes(of: entry)) }
  }

  /// The tensor `name`, which must have this type and shape.
  /// - Throws: `FileError` naming what was expected and what is there.
  public func require(_ name: String, type: SafetensorsType, shape: [Int]) throws -> Entry {
    guard let entry = entry(name) else {
      let near = StrictJSON.nearest(name, in: entries.map(\.name))
      let advice = near.map { "the file has '\($0)'" } ?? "is it the file of another model?"
      throw FileError.malformed(path, "the tensor '\(name)' is missing", advice: advice)
    }
    guard entry.type == type, entry.shape == shape else {
      throw FileError.malformed(
        path, "the tensor '\(name)' is \(entry.dtype) \(entry.shape), but \(type.rawValue) \(shape) is needed",
        advice: "is it the file of another model?")
    }
    return entry
  }
}
