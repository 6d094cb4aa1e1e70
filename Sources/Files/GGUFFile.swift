/// The head of a GGUF file, versions 2 and 3 with little-endian numbers: its metadata, and which tensors it holds where.
///
/// The file is mapped. Nothing is trusted: every count and length is checked against what is left of the file before
/// anything is read or made, so that no file takes more memory than it has bytes.
public final class GGUFFile: Sendable {
  /// A value of the metadata.
  public enum Value: Sendable {
    case unsigned(UInt64)
    case signed(Int64)
    case float(Double)
    case bool(Bool)
    case text(String)
    case list(List)
  }

  /// A list of the metadata, which stays in the file.
  public struct List: Sendable {
    /// The type of the elements.
    public let type: ElementType
    /// How many there are.
    public let count: Int
    /// The elements' bytes in the file.
    let range: Range<Int>
  }

  /// Types of values, with the numbers that stand for them in files.
  public enum ElementType: UInt32, Sendable {
    case uint8, int8, uint16, int16, uint32, int32, float32, bool, text, list, uint64, int64, float64

    /// Bytes of an element; nil for texts and lists, whose size differs.
    var size: Int? {
      switch self {
      case .uint8, .int8, .bool: 1
      case .uint16, .int16: 2
      case .uint32, .int32, .float32: 4
      case .uint64, .int64, .float64: 8
      case .text, .list: nil
      }
    }
  }

  /// Where a tensor lies.
  public struct TensorEntry: Sendable {
    /// The tensor's name.
    public let name: String
    /// Sizes, the fastest moving first, as the format has them.
    public let dimensions: [Int]
    /// The number of its storage type (0 is f32, 1 f16, 30 bf16, others are quantised).
    public let type: UInt32
    /// Bytes from the start of the tensors' data.
    public let offset: Int
  }

  /// The file.
  public let path: String
  /// All metadata by key.
  public let metadata: [String: Value]
  /// The tensors in the order of the file.
  public let tensors: [TensorEntry]
  /// Where the tensors' data begins in the file.
  public let dataStart: Int
  /// The whole file; valid while this object lives.
  public var bytes: UnsafeRawBufferPointer { mapping.bytes }
  private let mapping: FileMapping

  /// Reads the head of a file.
  /// - Throws: `FileError`, of kind `malformed` when the contents are not GGUF or are damaged.
  public init(_ path: String) throws {
    self.path = path
    mapping = try FileMapping(path)
    var reader = GGUFReader(mapping.bytes, path: path)
    let head = try reader.head()
    metadata = try reader.metadata(head.entries)
    tensors = try reader.tensors(head.tensors)
    dataStart = try reader.dataStart(alignment: metadata["general.alignment"])
    for tensor in tensors where tensor.offset > mapping.bytes.count - min(dataStart, mapping.bytes.count) {
      throw FileError.malformed(path, "the tensor '\(JSONError.shown(tensor.name))' lies outside the file")
    }
  }

  /// Whether a file begins like GGUF.
  public static func matches(_ path: String) -> Bool {
    guard let mapping = try? FileMapping(path) else { return false }
    return mapping.bytes.starts(with: "GGUF".utf8)
  }

  // MARK: Values

  /// A whole number; nil for a key that is missing or of another kind.
  public func integer(_ key: String) -> Int? {
    switch metadata[key] {
    case .unsigned(let value): Int(exactly: value)
    case .signed(let value): Int(exactly: value)
    default: nil
    }
  }

  /// A truth value; nil for a key that is missing or of another kind.
  public func bool(_ key: String) -> Bool? { if case .bool(let value)? = metadata[key] { value } else { nil } }

  /// A text; nil for a key that is missing or of another kind.
  public func text(_ key: String) -> String? { if case .text(let value)? = metadata[key] { value } else { nil } }

  /// A list, which stays in the file; nil for a key that is missing or of another kind.
  public func list(_ key: String) -> List? { if case .list(let value)? = metadata[key] { value } else { nil } }

  /// Calls `body` with the bytes of each text of a list and its place; the bytes are valid while it runs.
  /// - Throws: `FileError` when it is no list of texts.
  public func forEachText(_ key: String, _ body: (UnsafeRawBufferPointer, Int) throws -> Void) throws {
    guard let list = list(key), list.type == .text else {
      throw FileError.malformed(path, "\(key) is no list of texts")
    }
    var reader = GGUFReader(bytes, path: path, at: list.range.lowerBound)
    for index in 0..<list.count { try body(reader.textBytes(), index) }
  }

  /// The numbers of a list.
  /// - Throws: `FileError` when it is no list of numbers.
  public func numbers(_ key: String) throws -> [Double] {
    guard let list = list(key), list.type.size != nil, list.type != .bool else {
      throw FileError.malformed(path, "\(key) is no list of numbers")
    }
    var reader = GGUFReader(bytes, path: path, at: list.range.lowerBound)
    return try (0..<list.count).map { _ in
      switch try reader.scalar(list.type) {
      case .unsigned(let value): Double(value)
      case .signed(let value): Double(value)
      case .float(let value): value
      default: 0
      }
    }
  }

  /// The bytes of a list of bytes; nil for a key that is missing or of another kind.
  public func byteList(_ key: String) -> [UInt8]? {
    guard let list = list(key), list.type == .uint8 || list.type == .int8 else { return nil }
    return Array(bytes[list.range])
  }
}
