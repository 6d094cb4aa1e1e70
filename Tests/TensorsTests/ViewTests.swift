import FermataTestSupport
import Testing

@testable import FermataTensors

@Suite struct ViewTests {
  /// Random chains of views, compared with index arithmetic after every step.
  @Test(arguments: DType.allCases) func chainsOfViews(_ dtype: DType) throws {
    var random = TestRandom("chainsOfViews \(dtype)")
    for chain in 0..<120 {
      let shape = (0..<random.int(0...4)).map { _ in [0, 1, 1, 2, 3, 4, 6].randomElement(using: &random) ?? 1 }
      var tensor = try random.integers(shape, 0...120, dtype)
      var naive = try Naive(tensor)
      var story = "\(dtype) chain \(chain): \(shape)"
      for _ in 0..<random.int(1...6) {
        let step = try Self.step(&tensor, &naive, &random)
        story += " \(step)"
        try expectClose(tensor, naive, .exact, story)
        #expect(tensor.dtype == dtype)
        try expectClose(tensor.contiguous(), naive, .exact, story + " contiguous")
        #expect(try tensor.contiguous().isContiguous)
      }
    }
  }

  private static func step(_ tensor: inout Tensor, _ naive: inout Naive, _ random: inout TestRandom) throws -> String {
    let rank = tensor.rank
    switch random.int(0...7) {
    case 0:
      let order = Array(0..<rank).shuffled(using: &random)
      (tensor, naive) = (try tensor.transposed(order), naive.transposed(order))
      return "transposed\(order)"
    case 1 where rank > 0:
      let axis = random.int(0...rank - 1)
      let ends = [random.int(0...tensor.shape[axis]), random.int(0...tensor.shape[axis])].sorted()
      (tensor, naive) = (
        try tensor.slice(ends[0]..<ends[1], axis: axis - rank), naive.slice(ends[0]..<ends[1], axis: axis)
      )
      return "slice\(ends) of \(axis)"
    case 2 where rank < 5:
      let lead = random.chance(0.5) ? [random.int(0...3)] : []
      let target = lead + tensor.shape.map { $0 == 1 && random.chance(0.5) ? 3 : $0 }
      (tensor, naive) = (try tensor.broadcast(to: target), naive.broadcast(to: target))
      return "broadcast\(target)"
    case 3 where rank > 0:
      let axis = random.int(0...rank - 1)
      let (before, after) = (random.int(0...2), random.int(0...2))
      tensor = try tensor.padded(axis: axis, before: before, after: after)
      naive = naive.padded(axis: axis, before: before, after: after)
      return "padded \(before) \(after) of \(axis)"
    case 4 where rank > 0:
      let axis = random.int(0...rank - 1)
      guard tensor.shape[axis] > 0 else { return "" }
      let index = random.int(0...tensor.shape[axis] - 1)
      tensor = try tensor.select(index, axis: axis)
      naive = naive.slice(index..<index + 1, axis: axis).reshaped(tensor.shape)
      return "select \(index) of \(axis)"
    case 5:
      let axis = random.int(0...rank)
      tensor = try tensor.expanded(at: axis)
      naive = naive.reshaped(tensor.shape)
      return "expanded at \(axis)"
    default:
      let target = factors(of: tensor, &random)
      (tensor, naive) = (try tensor.reshaped(target), naive.reshaped(target))
      return "reshaped\(target)"
    }
  }

  /// A shape of as many elements: neighbours of the old one joined and split at random.
  private static func factors(of tensor: Tensor, _ random: inout TestRandom) -> [Int] {
    if tensor.count == 0 { return [0, random.int(1...3)] }
    var result: [Int] = []
    for size in tensor.shape {
      if let last = result.last, random.chance(0.4), last * size <= 500 {
        result[result.count - 1] = last * size
      } else if let divisor = (2...4).filter({ size % $0 == 0 }).randomElement(using: &random), random.chance(0.6) {
        result += [divisor, size / divisor]
      } else {
        result.append(size)
      }
      if random.chance(0.2) { result.append(1) }
    }
    return result
  }

  @Test func reshapingKeepsTheMemoryWhereItCan() throws {
    let x = try Tensor.range(24, .float32).reshaped([2, 3, 4])
    func isView(_ y: Tensor) -> Bool { y.storage === x.storage }
    #expect(isView(try x.reshaped([6, 4])))
    #expect(isView(try x.transposed([1, 0, 2]).reshaped([3, 2, 2, 2])))
    #expect(isView(try x.transposed([2, 0, 1]).reshaped([4, 6])))
    #expect(isView(try x.slice(1..<3, axis: 1).reshaped([2, 8])))
    #expect(isView(try x.slice(1..<3, axis: 2).reshaped([6, 2, 1])))
    #expect(isView(try x.expanded(at: 1).broadcast(to: [2, 5, 3, 4]).reshaped([2, 5, 12])))
    #expect(!isView(try x.transposed([1, 0, 2]).reshaped([6, 4])))
    #expect(!isView(try x.slice(1..<3, axis: 2).reshaped([12])))
    #expect(isView(try x.reshaped([-1])))
    #expect(isView(try x.reshaped([4, -1, 2])))
    #expect(try x.reshaped([4, -1, 2]).shape == [4, 3, 2])
  }

  @Test func joiningAndSplitting() throws {
    var random = TestRandom()
    for dtype in DType.allCases {
      for axis in 0..<3 {
        var shape = [3, 2, 5]
        let sizes = [1, 0, 4, 2]
        let parts = try sizes.map { size in
          shape[axis] = size
          return try random.integers(shape, 0...100, dtype)
        }
        let expected = Naive.concatenated(try parts.map { try Naive($0) }, axis: axis)
        let joined = try Tensor.concatenated(parts, axis: axis - 3)
        try expectClose(joined, expected, .exact, "\(dtype) axis \(axis)")
        for (part, original) in zip(try joined.split(sizes: sizes, axis: axis), parts) {
          try expectSameBits(part, original, "\(dtype) axis \(axis)")
        }
      }
    }
    let strided = try random.tensor([4, 6]).transposed(0, 1)
    let twice = try Tensor.concatenated([strided, strided.slice(0..<2, axis: 0)], axis: 0)
    try expectClose(twice, Naive.concatenated([Naive(strided), Naive(strided).slice(0..<2, axis: 0)], axis: 0))
  }

  @Test func wrongArgumentsThrow() throws {
    let x = try Tensor.zeros([2, 3])
    let wrong: [(String, () throws -> Tensor)] = [
      ("reshape", { try x.reshaped([4, 2]) }), ("two free sizes", { try x.reshaped([-1, -1]) }),
      ("negative", { try x.reshaped([-2, -3]) }), ("indivisible", { try x.reshaped([-1, 4]) }),
      ("free beside none", { try Tensor.zeros([0]).reshaped([-1, 0]) }),
      ("overflow", { try x.reshaped([.max, .max]) }),
      ("order", { try x.transposed([0, 0]) }), ("short order", { try x.transposed([0]) }),
      ("axis", { try x.transposed(0, 2) }), ("negative axis", { try x.transposed(-3, 0) }),
      ("slice end", { try x.slice(0..<4, axis: 1) }), ("slice start", { try x.slice(-1..<2, axis: 1) }),
      ("slice axis", { try x.slice(0..<1, axis: 2) }), ("select", { try x.select(3, axis: 1) }),
      ("select below", { try x.select(-1, axis: 0) }), ("select far", { try x.select(.max, axis: 0) }),
      ("broadcast", { try x.broadcast(to: [3, 3]) }), ("broadcast less", { try x.broadcast(to: [3]) }),
      ("broadcast below", { try Tensor.zeros([1]).broadcast(to: [-2]) }),
      ("broadcast far", { try Tensor.zeros([1, 1]).broadcast(to: [.max, .max]) }),
      ("expanded", { try x.expanded(at: 4) }), ("expanded below", { try x.expanded(at: -4) }),
      ("split", { try x.split(sizes: [1, 1], axis: 1)[0] }),
      ("split below", { try x.split(sizes: [4, -1], axis: 1)[0] }),
      ("split far", { try x.split(sizes: [.max, .max], axis: 1)[0] }),
      ("padded", { try x.padded(axis: 0, before: -1, after: 1) }),
      ("padded far", { try x.padded(axis: 0, before: .max, after: .max) }),
      ("join nothing", { try Tensor.concatenated([], axis: 0) }),
      ("join one", { try Tensor.concatenated([x], axis: 5) }),
      ("join shapes", { try Tensor.concatenated([x, Tensor.zeros([2, 4])], axis: 0) }),
      ("join types", { try Tensor.concatenated([x, Tensor.zeros([2, 3], .int32)], axis: 0) }),
      ("join ranks", { try Tensor.concatenated([x, Tensor.zeros([3])], axis: 0) }),
    ]
    for (name, body) in wrong { #expect(throws: TensorError.self, "\(name)") { try body() } }
  }
}
