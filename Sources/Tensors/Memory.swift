import CFermataKernels
import Foundation
import Synchronization

/// The caching allocator behind every tensor: freed blocks are kept by size class and handed out again,
/// because fresh pages from the system cost more than most operations on them.
public enum Memory {
  /// Bytes of tensors alive now, the most there have been since `resetPeak`, and bytes kept for reuse.
  public struct Usage: Sendable {
    public var live: Int
    public var peak: Int
    public var cached: Int
    /// Blocks asked from the system since the process began.
    public var systemAllocations: Int
    /// Blocks handed out since the process began, reused ones included.
    public var allocations: Int
  }

  struct State: Sendable {
    var live = 0
    var peak = 0
    /// The peak since the process began, which bounds the cache: starting a new measurement must not empty it.
    var highest = 0
    var cached = 0
    var systemAllocations = 0
    var allocations = 0
    var limit = Int.max
    /// Free blocks by their size.
    var free: [Int: FreeBlocks] = [:]
    /// Counts what is handed out and taken back, to tell which sizes have not been asked for lately.
    var tick = 0

    /// Once a block is there; one that could not be had was never alive.
    mutating func markPeak() {
      peak = max(peak, live)
      highest = max(highest, live)
    }

    /// Takes a free block of this size, if there is one.
    mutating func takeFree(_ size: Int) -> UInt? {
      tick += 1
      guard let address = free[size]?.take(at: tick) else { return nil }
      cached -= size
      return address
    }

    /// Keeps a block for reuse; returns the blocks that must go back to the system for it.
    mutating func keep(_ address: UInt, _ size: Int) -> [(address: UInt, size: Int)] {
      tick += 1
      free[size, default: FreeBlocks(lastUse: tick)].addresses.append(address)
      cached += size
      return takeSurplus()
    }

    /// Takes out what is kept beyond the bound, from sizes not asked for lately.
    mutating func takeSurplus() -> [(address: UInt, size: Int)] {
      var surplus: [(UInt, Int)] = []
      while live + cached > max(highest + highest / 2, 64 << 20),
        let (oldest, _) = free.lazy.filter({ !$1.addresses.isEmpty }).min(by: { $0.value.lastUse < $1.value.lastUse }),
        let address = free[oldest]?.addresses.popLast()
      {
        cached -= oldest
        surplus.append((address, oldest))
      }
      return surplus
    }
  }

  /// Free blocks of one size, as addresses, and when one was last asked for.
  struct FreeBlocks: Sendable {
    var addresses: [UInt] = []
    var lastUse: Int

    mutating func take(at tick: Int) -> UInt? {
      lastUse = tick
      return addresses.popLast()
    }
  }

  private static let state = Mutex(State())

  /// Fill every block with NaN bits before handing it out (FERMATA_POISON=1), so that reading memory that was never written shows.
  public static var poisonsFreshMemory: Bool {
    get { poison.load(ordering: .relaxed) }
    set { poison.store(newValue, ordering: .relaxed) }
  }
  private static let poison = Atomic<Bool>(ProcessInfo.processInfo.environment["FERMATA_POISON"] == "1")

  public static var usage: Usage {
    state.withLock {
      Usage(
        live: $0.live, peak: $0.peak, cached: $0.cached, systemAllocations: $0.systemAllocations,
        allocations: $0.allocations)
    }
  }

  /// Starts a new measurement: the peak becomes what is alive now.
  public static func resetPeak() { state.withLock { $0.peak = $0.live } }

  /// Runs the body and measures what the calling thread takes for tensors: the most at one time above what there was, and
  /// what is left at the end. Other threads do not disturb it.
  public static func measure<Result>(_ body: () throws -> Result) rethrows -> (result: Result, peak: Int, left: Int) {
    guard let account = fm_thread_memory() else { return (try body(), 0, 0) }
    let before = account.pointee
    account.pointee = fm_memory_account(live: 0, peak: 0)
    defer {
      let live = before.live + account.pointee.live
      account.pointee = fm_memory_account(live: live, peak: max(before.peak, before.live + account.pointee.peak))
    }
    let result = try body()
    return (result, Int(account.pointee.peak), Int(account.pointee.live))
  }

  private static func account(_ bytes: Int) {
    guard let account = fm_thread_memory() else { return }
    account.pointee.live += Int64(bytes)
    account.pointee.peak = max(account.pointee.peak, account.pointee.live)
  }

  /// The most bytes that tensors may take together; an allocation beyond it throws. Blocks kept for reuse go back to the
  /// system before they and the tensors alive pass it.
  public static var limit: Int {
    get { state.withLock { $0.limit } }
    set { state.withLock { $0.limit = newValue } }
  }

  /// Whether copies that only save time may take so many bytes more: they leave half of the limit to what must be there.
  package static func hasRoomToSpare(for bytes: Int) -> Bool {
    state.withLock { bytes <= $0.limit / 2 - $0.live }
  }

  /// Gives cached blocks back to the system.
  public static func releaseCache() {
    let blocks = state.withLock { state in
      defer {
        state.free = [:]
        state.cached = 0
      }
      return state.free
    }
    for (size, blocks) in blocks {
      for address in blocks.addresses { unmap(address, size) }
    }
  }

  /// Classes of four sizes an octave: at most a fifth of a block is wasted and blocks are found again.
  static func sizeClass(_ bytes: Int) -> Int {
    if bytes <= 256 { return 256 }
    let octave = Int.bitWidth - 1 - (bytes - 1).leadingZeroBitCount
    let step = 1 << (octave - 2)
    return (bytes + step - 1) & ~(step - 1)
  }

  /// More than any processor addresses; far below where sums of sizes would overflow.
  private static let addressable = 1 << 52

  /// Blocks from here up come from the system directly; smaller ones from malloc.
  private static let mapThreshold = 1 << 16

  static func allocate(_ bytes: Int) throws -> (pointer: UnsafeMutableRawPointer, size: Int) {
    try require(
      bytes <= addressable, "allocation", expected: "a tensor that a processor can address", got: "\(bytes) bytes")
    let size = sizeClass(bytes)
    let (reused, isCrowded, surplus): (UInt?, Bool, [(address: UInt, size: Int)]) = try state.withLock { state in
      if size > state.limit - state.live {
        throw TensorError(
          "allocation", expected: "at most \(state.limit) bytes of tensors in all (the memory limit)",
          got: "\(state.live) alive and \(size) more asked",
          advice: "use a smaller batch, shorter pieces, or raise the limit")
      }
      state.live += size
      state.allocations += 1
      if let address = state.takeFree(size) {
        state.markPeak()
        return (address, false, [])
      }
      state.systemAllocations += 1
      // The new block is among those alive already. Compared this way round, no sum can overflow.
      return (nil, state.cached > state.limit - state.live, state.takeSurplus())
    }
    for block in surplus { unmap(block.address, block.size) }
    account(size)
    fm_thread_work()?.pointee.allocations += 1
    if let reused, let pointer = UnsafeMutableRawPointer(bitPattern: reused) {
      if poisonsFreshMemory { fm_poison(pointer, size) }
      return (pointer, size)
    }
    if isCrowded { releaseCache() }
    guard let pointer = map(size) else {
      account(-size)
      state.withLock { $0.live -= size }
      throw TensorError(
        "allocation", expected: "\(size) bytes from the system", got: "out of memory",
        advice: "use a smaller batch, shorter pieces or a smaller model")
    }
    state.withLock { $0.markPeak() }
    if poisonsFreshMemory { fm_poison(pointer, size) }
    return (pointer, size)
  }

  private static func map(_ size: Int) -> UnsafeMutableRawPointer? {
    if size >= mapThreshold {
      if let pointer = fm_map_memory(size) { return pointer }
      releaseCache()
      return fm_map_memory(size)
    }
    return aligned_alloc(64, size)
  }

  private static func unmap(_ address: UInt, _ size: Int) {
    guard let pointer = UnsafeMutableRawPointer(bitPattern: address) else { return }
    if size >= mapThreshold { fm_unmap_memory(pointer, size) } else { free(pointer) }
  }

  /// Blocks alive and kept come to at most half as much again as was once alive: the sizes that a step asks for one after
  /// another add up to more than it ever has alive, and a cache that holds only that would ask the system again every step.
  static func release(_ pointer: UnsafeMutableRawPointer, _ size: Int) {
    account(-size)
    let surplus = state.withLock { state in
      state.live -= size
      return state.keep(UInt(bitPattern: pointer), size)
    }
    for block in surplus { unmap(block.address, block.size) }
  }
}

/// A block of memory that tensors share. Its contents never change once a second owner can see them:
/// the few operations in place ask `isKnownUniquelyReferenced` first.
package final class Storage: @unchecked Sendable {
  package let pointer: UnsafeMutableRawPointer
  package let byteCount: Int
  private let blockSize: Int
  private let owner: AnyObject?

  package init(byteCount: Int) throws {
    (pointer, blockSize) = try Memory.allocate(max(byteCount, 1))
    self.byteCount = blockSize
    owner = nil
  }

  /// Memory that somebody else owns (a mapped file), kept alive with this storage.
  package init(borrowing pointer: UnsafeMutableRawPointer, byteCount: Int, owner: AnyObject) {
    self.pointer = pointer
    self.byteCount = byteCount
    self.owner = owner
    blockSize = 0
  }

  /// Borrowed memory is read-only.
  package var isBorrowed: Bool { owner != nil }

  /// Elements from the start that some tensor may see, for memory that grows by `append`; 0 elsewhere.
  private let filled = Atomic<Int>(0)
  package func markFilled(_ end: Int) { filled.store(end, ordering: .releasing) }
  /// Takes the elements in start..<end for one writer; false when they were taken or this memory does not grow.
  package func claim(from start: Int, to end: Int) -> Bool {
    start > 0 && filled.compareExchange(expected: start, desired: end, ordering: .acquiringAndReleasing).exchanged
  }

  /// Copies of these elements in orders that make products faster. They go when the elements change, or with this storage.
  package let packed = PackedCopies()

  deinit {
    if owner == nil { Memory.release(pointer, blockSize) }
  }
}
