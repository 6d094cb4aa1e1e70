import Synchronization

/// Work counted as it is done: floating-point operations (a multiply-add counts two) and bytes read and written by kernels.
public enum Work {
  public struct Count: Sendable, Equatable {
    public var flops: Int
    public var bytes: Int
    public static func - (a: Count, b: Count) -> Count { Count(flops: a.flops - b.flops, bytes: a.bytes - b.bytes) }
  }

  private static let flops = Atomic<Int>(0)
  private static let bytes = Atomic<Int>(0)

  /// Totals since the process began; take the difference of two.
  public static var count: Count {
    Count(flops: flops.load(ordering: .relaxed), bytes: bytes.load(ordering: .relaxed))
  }

  package static func add(flops: Int, bytes: Int) {
    self.flops.wrappingAdd(flops, ordering: .relaxed)
    self.bytes.wrappingAdd(bytes, ordering: .relaxed)
  }
}
