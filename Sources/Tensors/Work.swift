import CFermataKernels
import Synchronization

/// Work counted as it is done: the same on every machine, whatever its speed.
public enum Work {
  public struct Count: Sendable, Equatable {
    /// Floating-point operations; a multiply-add counts two.
    public var flops: Int
    /// Bytes read and written by kernels.
    public var bytes: Int
    /// Blocks of memory handed out for tensors.
    public var allocations: Int
    /// Primitives that oneDNN made because no kept one fitted: none once every shape has been seen.
    public var primitives: Int

    public static func - (a: Count, b: Count) -> Count {
      Count(
        flops: a.flops - b.flops, bytes: a.bytes - b.bytes, allocations: a.allocations - b.allocations,
        primitives: a.primitives - b.primitives)
    }
  }

  private static let flops = Atomic<Int>(0)
  private static let bytes = Atomic<Int>(0)

  /// Totals since the process began; take the difference of two.
  public static var count: Count {
    Count(
      flops: flops.load(ordering: .relaxed), bytes: bytes.load(ordering: .relaxed),
      allocations: Memory.usage.allocations, primitives: Int(fm_product_primitives_created()))
  }

  /// Runs the body and counts what the calling thread does; other threads do not disturb it.
  public static func measure<Result>(_ body: () throws -> Result) rethrows -> (result: Result, count: Count) {
    let before = ofThisThread
    let result = try body()
    return (result, ofThisThread - before)
  }

  private static var ofThisThread: Count {
    let account = fm_thread_work()?.pointee ?? fm_work_account()
    return Count(
      flops: Int(account.flops), bytes: Int(account.bytes), allocations: Int(account.allocations),
      primitives: Int(account.primitives))
  }

  package static func add(flops: Int, bytes: Int) {
    self.flops.wrappingAdd(flops, ordering: .relaxed)
    self.bytes.wrappingAdd(bytes, ordering: .relaxed)
    guard let account = fm_thread_work() else { return }
    account.pointee.flops &+= Int64(flops)
    account.pointee.bytes &+= Int64(bytes)
  }
}
