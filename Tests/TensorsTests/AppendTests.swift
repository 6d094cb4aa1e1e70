import FermataTestSupport
import Testing

@testable import FermataTensors

@Suite struct AppendTests {
  @Test(arguments: DType.allCases) func rowsArriveInOrder(_ dtype: DType) throws {
    var random = TestRandom("append \(dtype)")
    for rowShape in [[], [1], [3], [2, 5]] {
      var cache = try random.integers([0] + rowShape, 0...100, dtype)
      var expected = try Naive(cache)
      for _ in 0..<60 {
        let rows = try random.integers([random.int(0...3)] + rowShape, 0...100, dtype)
        try cache.append(rows)
        expected = Naive.concatenated([expected, try Naive(rows)], axis: 0)
        if random.chance(0.2) {
          let kept = random.int(0...cache.shape[0])
          cache = try cache.keepingLast(kept)
          expected = expected.slice(expected.shape[0] - kept..<expected.shape[0], axis: 0)
        }
        try expectClose(cache, expected, .exact, "\(dtype) \(rowShape)")
      }
    }
  }

  /// n appends move the memory a logarithmic number of times.
  @Test func growthIsAmortised() throws {
    TestRun.prepare()
    var cache = try Tensor.zeros([0, 8])
    let row = try Tensor.ones([1, 8])
    var moves = 0
    for _ in 0..<4000 {
      let before = cache.storage
      try cache.append(row)
      if cache.storage !== before { moves += 1 }
    }
    #expect(cache.shape == [4000, 8] && moves < 15, "\(moves) moves")
    #expect(try cache.sum().item() == 32_000)
  }

  /// Forks share what lies before them and never see each other's rows, in whatever order they grow.
  @Test func forksDoNotDisturbEachOther() throws {
    var random = TestRandom()
    var forks: [(tensor: Tensor, expected: [Float])] = [(try Tensor.zeros([0, 2]), [])]
    for step in 0..<600 {
      let index = random.int(0...forks.count - 1)
      if random.chance(0.1) && forks.count < 12 { forks.append(forks[index]) }
      if random.chance(0.05) && forks.count > 1 {
        forks.remove(at: index)
        continue
      }
      let rows = try random.tensor([random.int(1...2), 2])
      if random.chance(0.1) {  // roll back to a prefix: what was there must not be overwritten for others
        let length = random.int(0...forks[index].tensor.shape[0])
        forks[index].tensor = try forks[index].tensor.slice(0..<length, axis: 0)
        forks[index].expected = Array(forks[index].expected.prefix(2 * length))
      }
      try forks[index].tensor.append(rows)
      forks[index].expected += try rows.floats()
      for (number, fork) in forks.enumerated() where try fork.tensor.floats() != fork.expected {
        throw Mismatch("step \(step): fork \(number) changed when fork \(index) grew")
      }
    }
  }

  @Test func theSimplestFork() throws {
    TestRun.prepare()
    var a = try Tensor([1, 2])
    try a.append(Tensor([3]))
    var b = a
    try a.append(Tensor([4]))
    try b.append(Tensor([5]))
    var c = a
    try c.append(c)
    #expect(try a.floats() == [1, 2, 3, 4] && b.floats() == [1, 2, 3, 5])
    #expect(try c.floats() == [1, 2, 3, 4, 1, 2, 3, 4])
  }

  @Test func forksOnManyThreads() async throws {
    var trunk = try Tensor.zeros([3, 4])
    try trunk.append(Tensor.ones([1, 4]))
    let shared = trunk
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<16 {
        group.addTask {
          var fork = shared
          for _ in 0..<50 { try fork.append(Tensor.full([1, 4], Double(number))) }
          let expected = try shared.floats() + [Float](repeating: Float(number), count: 200)
          if try fork.floats() != expected { throw Mismatch("fork \(number) holds another's rows") }
        }
      }
      try await group.waitForAll()
    }
  }

  @Test func changingOneCopyLeavesTheOther() throws {
    TestRun.prepare()
    var a = try Tensor([1, 2, 3, 4] as [Float], shape: [2, 2])
    let b = a
    let column = try a.transposed(0, 1)
    try a.withMutableBytes { $0.bindMemory(to: Float.self)[1] = 9 }
    #expect(try a.floats() == [1, 9, 3, 4] && b.floats() == [1, 2, 3, 4] && column.floats() == [1, 3, 2, 4])
    let storage = ObjectIdentifier(a.storage)
    try a.withMutableBytes { $0.bindMemory(to: Float.self)[0] = 7 }
    #expect(ObjectIdentifier(a.storage) == storage)
    var view = column
    try view.withMutableBytes { $0.bindMemory(to: Float.self)[1] = 0 }
    #expect(try view.floats() == [1, 0, 2, 4] && column.floats() == [1, 3, 2, 4])
  }

  @Test func trackedTensorsAreConcatenated() throws {
    let (a, b) = (try Tensor([1, 2]).tracked(), try Tensor([3]).tracked())
    var joined = a
    try joined.append(b)
    let found = try gradients(of: (joined * Tensor([5, 6, 7])).sum())
    #expect(try found[a]?.floats() == [5, 6] && found[b]?.floats() == [7])
  }

  @Test func wrongRowsThrow() throws {
    var cache = try Tensor.zeros([2, 3])
    var flat = try Tensor.zeros([2])
    var number = try Tensor(1)
    #expect(throws: TensorError.self) { try cache.append(Tensor.zeros([1, 4])) }
    #expect(throws: TensorError.self) { try cache.append(Tensor.zeros([3])) }
    #expect(throws: TensorError.self) { try cache.append(Tensor.zeros([1, 3], .bfloat16)) }
    #expect(throws: TensorError.self) { try flat.append(Tensor(1)) }
    #expect(throws: TensorError.self) { try number.append(Tensor(1)) }
    #expect(cache.shape == [2, 3])
  }
}
