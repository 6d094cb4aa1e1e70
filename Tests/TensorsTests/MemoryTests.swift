import FermataTestSupport
import Testing

@testable import FermataTensors

/// The allocator's numbers belong to the process, where other suites run at the same time: these tests move far more
/// memory than others do, and leave room for them.
@Suite(.serialized) struct MemoryTests {
  private static let noise = 48 << 20

  @Test func sizeClassesWasteLittle() {
    for bytes in [0, 1, 255, 256, 257, 1000, 4096, 4097, 65_537, 1 << 20, (1 << 20) + 1, 123_456_789, 1 << 40] {
      let size = Memory.sizeClass(bytes)
      #expect(size >= bytes && size >= 256 && size <= max(256, bytes + bytes / 4 + 1), "\(bytes) in \(size)")
      #expect(Memory.sizeClass(size) == size)
    }
  }

  @Test func liveFallsBack() throws {
    let before = Memory.usage.live
    var kept: [Tensor]? = try (0..<4).map { _ in try Tensor.zeros([16 << 20]) }
    #expect(kept?.count == 4)
    #expect(Memory.usage.live >= before + (256 << 20) - Self.noise)
    kept = nil
    #expect(Memory.usage.live <= before + Self.noise)
  }

  /// A leak of one tensor a round would show: 400 rounds of forward and backward through a megabyte.
  @Test func graphsLeaveNothingBehind() throws {
    let before = Memory.usage.live
    let x = try Tensor.ones([512, 512]).tracked()
    for _ in 0..<400 {
      let found = try gradients(of: (x * x + x).sum())
      #expect(found[x] != nil)
    }
    #expect(Memory.usage.live <= before + Self.noise)
  }

  @Test func blocksAreReused() throws {
    for _ in 0..<3 { _ = try Tensor.zeros([5_000_011]) }
    let before = Memory.usage
    for _ in 0..<100 { _ = try Tensor.zeros([5_000_011]) }
    let after = Memory.usage
    #expect(after.allocations >= before.allocations + 100)
    // Others may take a block from the system meanwhile, but never one of this size.
    #expect(Memory.usage.live + Memory.usage.cached < 1 << 31)
  }

  @Test func thePeakIsRemembered() throws {
    Memory.resetPeak()
    let before = Memory.usage.live
    _ = try Tensor.zeros([32 << 20])
    #expect(Memory.usage.peak >= before + (128 << 20) - Self.noise)
    Memory.resetPeak()
    #expect(Memory.usage.peak < before + (128 << 20))
  }

  @Test func theLimitThrows() throws {
    let before = Memory.limit
    defer { Memory.limit = before }
    Memory.limit = Memory.usage.live + (512 << 20)
    let error = #expect(throws: TensorError.self) { try Tensor.zeros([256 << 20]) }
    #expect(error?.operation == "allocation")
    Memory.limit = before
    #expect(throws: TensorError.self) { try Tensor.zeros([1 << 45]) }
    #expect(try Tensor.zeros([10]).floats().count == 10)
  }

  @Test func freshMemoryIsPoisoned() throws {
    TestRun.prepare()
    for count in [3, 1000, 1 << 20] {
      do { _ = try Tensor.ones([count]) }
      #expect(try Tensor(uninitialized: [count]).floats().allSatisfy(\.isNaN))
      #expect(try Tensor(uninitialized: [count], .bfloat16).floats().allSatisfy(\.isNaN))
    }
  }

  @Test func theCacheGoesBackToTheSystem() throws {
    do { _ = try Tensor.zeros([40 << 20]) }
    Memory.releaseCache()
    #expect(Memory.usage.cached < Self.noise)
    #expect(try Tensor.ones([3]).floats() == [1, 1, 1])
  }

  @Test func workIsCounted() throws {
    let before = Work.count
    _ = try matmul(Tensor.zeros([1000, 100]), Tensor.zeros([100, 1000]))
    let done = Work.count - before
    #expect(done.flops >= 200_000_000 && done.bytes >= 4_800_000)
  }
}
