/// Element types of tensors, named as safetensors files name them.
public enum DType: String, Sendable, Codable, CaseIterable {
  case float32 = "F32"
  case bfloat16 = "BF16"
  case int32 = "I32"
  case int64 = "I64"
  case uint8 = "U8"

  /// Bytes of one element.
  public var byteCount: Int {
    switch self {
    case .float32, .int32: 4
    case .bfloat16: 2
    case .int64: 8
    case .uint8: 1
    }
  }

  /// Whether gradients can flow through values of this type.
  public var isFloatingPoint: Bool { self == .float32 || self == .bfloat16 }
}

/// A Swift type that tensors hold without conversion.
public protocol TensorElement: Sendable, BitwiseCopyable {
  static var dtype: DType { get }
}

extension Float: TensorElement { public static var dtype: DType { .float32 } }
extension Int32: TensorElement { public static var dtype: DType { .int32 } }
extension Int64: TensorElement { public static var dtype: DType { .int64 } }
extension UInt8: TensorElement { public static var dtype: DType { .uint8 } }
