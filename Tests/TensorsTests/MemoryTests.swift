import FermataTestSupport
import Testing

@testable import FermataTensors

/// The allocator's numbers belong to the process, where other suites run at the same time: see `holdsOnce`.
@Suite(.serialized) struct MemoryTests {
  private static let noise = 32 << 20

  @Test func sizeClassesWasteLittle() {
    for bytes in [0, 1, 255, 256, 257, 1000, 4096, 4097, 65_537, 1 << 20, (1 << 20) + 1, 123_456_789, 1 << 40] {
      let size = Memory.sizeClass(bytes)
      #expect(size >= bytes && size >= 256 && size <= max(256, bytes + bytes / 4 + 1), "\(bytes) in \(size)")
      #expect(Memory.sizeClass(size) == size)
    }
  }

  @Test func liveFallsBack() throws {
    let holds = try holdsOnce {
      let before = Memory.usage.live
      var kept: [Tensor]? = try (0..<4).map { _ in try Tensor.zeros([8 << 20]) }
      let during = Memory.usage.live
      let count = kept?.count
      kept = nil
      let after = Memory.usage.live
      return count == 4 && abs(during - before - (128 << 20)) < Self.noise && abs(after - before) < Self.noise
    }
    #expect(holds)
  }

  /// A leak of one tensor a round would show: 200 rounds of forward and backward through a megabyte.
  @Test func graphsLeaveNothingBehind() throws {
    let x = try Tensor.ones([512, 512]).tracked()
    let holds = try holdsOnce {
      let before = Memory.usage.live
      for _ in 0..<200 {
        let found = try gradients(of: (x * x + x).sum())
        if found[x] == nil { return false }
      }
      return Memory.usage.live - before < 100 << 20
    }
    #expect(holds)
  }

  @Test func blocksAreReused() throws {
    let holds = try holdsOnce {
      Memory.releaseCache()
      for _ in 0..<3 { _ = try Tensor.zeros([2_000_011]) }
      let before = Memory.usage
      for _ in 0..<100 { _ = try Tensor.zeros([2_000_011]) }
      let after = Memory.usage
      return after.allocations >= before.allocations + 100 && after.systemAllocations < before.systemAllocations + 50
    }
    #expect(holds)
  }

  @Test func thePeakIsRemembered() throws {
    let holds = try holdsOnce {
      Memory.resetPeak()
      let before = Memory.usage.live
      _ = try Tensor.zeros([32 << 20])
      let peak = Memory.usage.peak
      Memory.resetPeak()
      return abs(peak - before - (128 << 20)) < Self.noise && Memory.usage.peak < before + Self.noise
    }
    #expect(holds)
  }

  /// The limit leaves the others room; what is asked is far above it and never touched.
  @Test func theLimitThrows() throws {
    let before = Memory.limit
    defer { Memory.limit = before }
    Memory.limit = Memory.usage.live + (4 << 30)
    #expect(Memory.hasRoomToSpare(for: 1 << 20) && !Memory.hasRoomToSpare(for: 3 << 30))
    let error = #expect(throws: TensorError.self) { try Tensor.zeros([2 << 30]) }
    #expect(error?.operation == "allocation")
    #expect(error?.expected.contains("memory limit") == true)
    Memory.limit = before
    let peak = Memory.usage.peak
    #expect(throws: TensorError.self) { try Tensor.zeros([1 << 45]) }
    #expect(Memory.usage.peak < peak + 1 << 45, "what could not be had was never alive")
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
    let holds = try holdsOnce {
      do { _ = try Tensor.zeros([20 << 20]) }
      let before = Memory.usage.cached
      Memory.releaseCache()
      return before >= 80 << 20 && Memory.usage.cached < Self.noise
    }
    #expect(holds)
    #expect(try Tensor.ones([3]).floats() == [1, 1, 1])
  }

  /// What a step asks for one size after another may add up to more than was ever alive; beyond half as much again, the blocks
  /// go that were not asked for lately.
  @Test func sizesThatAreAskedForStay() {
    var state = Memory.State()
    let (old, recent) = (64 << 20, 32 << 20)
    state.highest = 2 * old
    for address in UInt(1)...2 { #expect(state.keep(address, old).isEmpty) }
    for address in UInt(3)...4 { #expect(state.keep(address, recent).isEmpty) }
    #expect(state.cached == state.highest + state.highest / 2)
    // A block that the system must give makes room as one that is kept does.
    state.live = old
    #expect(state.takeSurplus().map(\.size) == [old])
    state.live = 0
    #expect(state.keep(5, old).isEmpty)
    let surplus = state.keep(6, recent)
    #expect(surplus.count == 1 && surplus.first?.size == old)
    #expect(state.cached == old + 3 * recent)
    #expect(state.takeFree(old) != nil && state.takeFree(old) == nil)
    #expect((0..<3).allSatisfy { _ in state.takeFree(recent) != nil } && state.cached == 0)
  }

  @Test func workIsCounted() throws {
    let before = Work.count
    _ = try matmul(Tensor.zeros([1000, 100]), Tensor.zeros([100, 1000]))
    let done = Work.count - before
    #expect(done.flops >= 200_000_000 && done.bytes >= 4_800_000)
  }
}
