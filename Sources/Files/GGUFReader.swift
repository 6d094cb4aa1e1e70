/// Reads the head of a GGUF file from front to back, checking before it reads.
struct GGUFReader {
  private let bytes: UnsafeRawBufferPointer
  private let path: String
  private var offset: Int
  private static let deepest = 4

  init(_ bytes: UnsafeRawBufferPointer, path: String, at offset: Int = 0) {
    self.bytes = bytes
    self.path = path
    self.offset = offset
  }

  private func error(_ reason: String) -> FileError { FileError.malformed(path, "\(reason), at byte \(offset)") }

  private func checkLeft(_ count: Int) throws {
    guard count <= bytes.count - offset else { throw error("it ends too early") }
  }

  private mutating func number<Number: FixedWidthInteger>(_ type: Number.Type) throws -> Number {
    try checkLeft(MemoryLayout<Number>.size)
    let value = bytes.loadUnaligned(fromByteOffset: offset, as: Number.self)
    offset += MemoryLayout<Number>.size
    return Number(littleEndian: value)
  }

  /// A count of things that take at least `size` bytes each.
  private mutating func count(of size: Int, _ what: String) throws -> Int {
    let value = try number(UInt64.self)
    guard value <= UInt64((bytes.count - offset) / size) else {
      throw error("it claims \(value) \(what), more than it has bytes for")
    }
    return Int(value)
  }

  /// Magic number, version, and how many tensors and metadata entries follow.
  mutating func head() throws -> (tensors: Int, entries: Int) {
    guard bytes.starts(with: "GGUF".utf8) else { throw error("it does not begin with 'GGUF'") }
    offset = 4
    let version = try number(UInt32.self)
    guard version == 2 || version == 3 else {
      let isSwapped = version.byteSwapped == 2 || version.byteSwapped == 3
      throw error(isSwapped ? "its numbers are big-endian" : "its version is \(version); 2 and 3 are read")
    }
    // A tensor takes 24 bytes and its name; an entry 12 and its key.
    return (try count(of: 24, "tensors"), try count(of: 12, "metadata entries"))
  }

  mutating func metadata(_ count: Int) throws -> [String: GGUFFile.Value] {
    var metadata: [String: GGUFFile.Value] = [:]
    for _ in 0..<count {
      let key = try text()
      guard metadata.updateValue(try value(type(), depth: 0), forKey: key) == nil else {
        throw error("the key '\(JSONError.shown(key))' is there twice")
      }
    }
    return metadata
  }

  private mutating func type() throws -> GGUFFile.ElementType {
    let number = try number(UInt32.self)
    guard let type = GGUFFile.ElementType(rawValue: number) else { throw error("there is no value type \(number)") }
    return type
  }

  /// The bytes of a text: its length, then itself.
  mutating func textBytes() throws -> UnsafeRawBufferPointer {
    let count = try count(of: 1, "bytes of text")
    defer { offset += count }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
  }

  private mutating func text() throws -> String { String(decoding: try textBytes(), as: UTF8.self) }

  private mutating func value(_ type: GGUFFile.ElementType, depth: Int) throws -> GGUFFile.Value {
    switch type {
    case .text: .text(try text())
    case .list: .list(try list(depth: depth))
    default: try scalar(type)
    }
  }

  /// A number or a truth value.
  mutating func scalar(_ type: GGUFFile.ElementType) throws -> GGUFFile.Value {
    switch type {
    case .uint8: .unsigned(UInt64(try number(UInt8.self)))
    case .uint16: .unsigned(UInt64(try number(UInt16.self)))
    case .uint32: .unsigned(UInt64(try number(UInt32.self)))
    case .uint64: .unsigned(try number(UInt64.self))
    case .int8: .signed(Int64(try number(Int8.self)))
    case .int16: .signed(Int64(try number(Int16.self)))
    case .int32: .signed(Int64(try number(Int32.self)))
    case .int64: .signed(try number(Int64.self))
    case .float32: .float(Double(Float(bitPattern: try number(UInt32.self))))
    case .float64: .float(Double(bitPattern: try number(UInt64.self)))
    case .bool: .bool(try number(UInt8.self) != 0)
    case .text, .list: throw error("a number was expected")
    }
  }

  private mutating func list(depth: Int) throws -> GGUFFile.List {
    guard depth < Self.deepest else { throw error("lists are nested more than \(Self.deepest) deep") }
    let type = try type()
    // A text takes 8 bytes at least, a list 12.
    let count = try count(of: type.size ?? (type == .text ? 8 : 12), "elements")
    let start = offset
    if let size = type.size {
      offset += count * size
    } else if type == .text {
      for _ in 0..<count { _ = try textBytes() }
    } else {
      for _ in 0..<count { _ = try list(depth: depth + 1) }
    }
    return GGUFFile.List(type: type, count: count, range: start..<offset)
  }

  mutating func tensors(_ count: Int) throws -> [GGUFFile.TensorEntry] {
    var tensors: [GGUFFile.TensorEntry] = []
    for _ in 0..<count {
      let name = try text()
      let axes = try number(UInt32.self)
      guard axes <= 8 else { throw error("the tensor '\(JSONError.shown(name))' claims \(axes) dimensions") }
      var elements = 1
      let dimensions = try (0..<axes).map { _ in
        let size = try number(UInt64.self)
        guard let size = Int(exactly: size) else { throw error("a dimension of \(size) is impossible") }
        let (product, overflow) = elements.multipliedReportingOverflow(by: size)
        if overflow { throw error("the tensor '\(JSONError.shown(name))' is impossibly large") }
        elements = product
        return size
      }
      let type = try number(UInt32.self)
      guard let place = Int(exactly: try number(UInt64.self)) else { throw error("a tensor lies outside the file") }
      tensors.append(GGUFFile.TensorEntry(name: name, dimensions: dimensions, type: type, offset: place))
    }
    return tensors
  }

  /// Where the data begins: the end of the head, rounded up.
  func dataStart(alignment: GGUFFile.Value?) throws -> Int {
    var step = 32
    if let alignment {
      guard case .unsigned(let value) = alignment, value > 0, value <= 1 << 20, value & (value - 1) == 0 else {
        throw error("general.alignment is no power of two up to 1048576")
      }
      step = Int(value)
    }
    return (offset + step - 1) / step * step
  }
}
