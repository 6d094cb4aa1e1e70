import CFermataKernels
import FermataFiles
import FermataLayers
import FermataTensors

/// Named tensors in a safetensors file.
public enum TensorFile {
  /// Writes tensors, whole or not at all.
  public static func write(
    _ tensors: [(name: String, value: Tensor)], metadata: [String: String] = [:], to path: String
  )
    throws
  {
    let ready = try tensors.map { ($0.name, try $0.value.detached.contiguous()) }
    try withExtendedLifetime(ready) {
      let entries = try ready.map { name, tensor in
        guard let type = SafetensorsType(rawValue: tensor.dtype.rawValue) else {
          throw TensorError("write", expected: "a type that safetensors knows", got: "\(tensor.dtype)")
        }
        return SafetensorsFile.Tensor(
          name: name, type: type, shape: tensor.shape,
          bytes: UnsafeRawBufferPointer(start: tensor.pointer, count: tensor.byteCount))
      }
      try SafetensorsFile.write(entries, metadata: metadata, to: path)
    }
  }

  /// One tensor of a file, read in place from the memory map.
  public static func tensor(_ entry: SafetensorsFile.Entry, of file: SafetensorsFile) throws -> Tensor {
    // A byte each, 0 or 1.
    guard let dtype = entry.type == .bool ? .uint8 : DType(rawValue: entry.dtype) else {
      throw TensorError(
        file.path, expected: "tensors of type \(DType.allCases.map(\.rawValue).joined(separator: ", "))",
        got: "'\(entry.name)' of type \(entry.dtype)")
    }
    let bytes = file.bytes(of: entry)
    guard let base = bytes.baseAddress, bytes.count > 0 else { return try Tensor.zeros(entry.shape, dtype) }
    // Files from elsewhere may place numbers at odd addresses.
    if UInt(bitPattern: base) % UInt(dtype.byteCount) != 0 {
      let copy = try Tensor.zeros(entry.shape, dtype)
      copy.pointer.copyMemory(from: base, byteCount: bytes.count)
      return copy
    }
    let storage = Storage(borrowing: UnsafeMutableRawPointer(mutating: base), byteCount: bytes.count, owner: file)
    return Tensor(storage: storage, shape: entry.shape, dtype: dtype)
  }

  /// All tensors of a file, by name.
  public static func read(_ path: String) throws -> [String: Tensor] {
    let file = try SafetensorsFile(path)
    return try Dictionary(uniqueKeysWithValues: file.entries.map { ($0.name, try tensor($0, of: file)) })
  }

  /// A tensor of a floating type, converted to another where it is stored in one that kernels do not read.
  public static func floating(
    _ entry: SafetensorsFile.Entry, of file: SafetensorsFile, as target: DType
  ) throws -> Tensor {
    if let dtype = DType(rawValue: entry.dtype), dtype.isFloatingPoint {
      return try tensor(entry, of: file).cast(to: target)
    }
    guard entry.type == .float16 || entry.type == .float64 else {
      throw TensorError(
        file.path, expected: "'\(entry.name)' of a floating type (F32, F16, BF16, F64)", got: entry.dtype)
    }
    let result = try Tensor(uninitialized: entry.shape, .float32)
    let bytes = file.bytes(of: entry)
    if let base = bytes.baseAddress, result.count > 0 {
      fm_widen(entry.type == .float16 ? FM_HALF : FM_DOUBLE, base, result.floatPointer, Int64(result.count))
    }
    withExtendedLifetime(file) {}
    return try result.cast(to: target)
  }
}
