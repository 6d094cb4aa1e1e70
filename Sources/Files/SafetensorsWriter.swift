import Foundation

extension SafetensorsFile {
  /// A tensor to be written.
  public struct Tensor {
    let name: String
    let type: SafetensorsType
    let shape: [Int]
    let produce: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void

    /// A tensor whose bytes are produced when their turn comes: `produce` calls its argument with one piece after
    /// another.
    public init(
      name: String, type: SafetensorsType, shape: [Int],
      produce: @escaping ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    ) {
      self.name = name
      self.type = type
      self.shape = shape
      self.produce = produce
    }

    /// A tensor whose little-endian bytes lie in memory until the file is written.
    public init(name: String, type: SafetensorsType, shape: [Int], bytes: UnsafeRawBufferPointer) {
      self.init(name: name, type: type, shape: shape) { write in try write(bytes) }
    }

    /// A tensor whose little-endian bytes are held by a value such as `Data`.
    public init(name: String, type: SafetensorsType, shape: [Int], bytes: some ContiguousBytes) {
      self.init(name: name, type: type, shape: shape) { write in try bytes.withUnsafeBytes { try write($0) } }
    }

    /// An F32 tensor of numbers in an array.
    public init(name: String, shape: [Int], floats: [Float]) {
      self.init(name: name, type: .float32, shape: shape) { write in try floats.withUnsafeBytes { try write($0) } }
    }
  }

  /// Writes tensors to a file, whole or not at all, without gathering them in memory.
  ///
  /// The tensors keep their order, except that wider element types come first: then each begins at a multiple of its
  /// element's size, since the header is padded with spaces to a multiple of 8.
  /// - Throws: `FileError`; of kind `malformed` for a repeated name or bytes that do not fill the shape.
  public static func write(_ tensors: [Tensor], metadata: [String: String] = [:], to path: String) throws {
    let ordered = tensors.enumerated().sorted { first, second in
      (-first.element.type.size, first.offset) < (-second.element.type.size, second.offset)
    }.map(\.element)
    let header = try header(ordered, metadata: metadata, path: path)
    try AtomicFile.write(to: path) { sink in
      try withUnsafeBytes(of: UInt64(header.count).littleEndian) { try sink.write($0) }
      try sink.write(header)
      for tensor in ordered {
        let expected = tensor.type.bytes(of: tensor.shape)
        let before = sink.count
        try tensor.produce { bytes in try sink.write(bytes) }
        if sink.count - before != expected {
          throw refusal(
            path,
            "the tensor '\(tensor.name)' gave \(sink.count - before) bytes for \(tensor.type.rawValue) \(tensor.shape)")
        }
      }
    }
  }

  private static func header(_ tensors: [Tensor], metadata: [String: String], path: String) throws -> [UInt8] {
    var members: [String: JSONValue] = [:]
    if !metadata.isEmpty { members[SafetensorsHeader.metadataKey] = .object(metadata.mapValues { .string($0) }) }
    var position = 0
    for tensor in tensors {
      guard tensor.name != SafetensorsHeader.metadataKey, members[tensor.name] == nil else {
        throw refusal(path, "there are two tensors called '\(tensor.name)', or one with a reserved name")
      }
      guard let size = tensor.type.bytes(of: tensor.shape), size <= Int.max - position else {
        throw refusal(path, "the tensor '\(tensor.name)' has the impossible shape \(tensor.shape)")
      }
      members[tensor.name] = [
        "dtype": .string(tensor.type.rawValue), "shape": .array(tensor.shape.map { .int($0) }),
        "data_offsets": [.int(position), .int(position + size)],
      ]
      position += size
    }
    var header = Array(try JSONValue.object(members).text().utf8)
    header += [UInt8](repeating: UInt8(ascii: " "), count: (8 - header.count % 8) % 8)
    guard header.count <= SafetensorsHeader.largestHeader else {
      throw refusal(path, "the names and shapes of \(tensors.count) tensors do not fit a header")
    }
    return header
  }

  private static func refusal(_ path: String, _ reason: String) -> FileError {
    FileError(path: path, operation: "write", kind: .malformed, reason: reason)
  }
}
