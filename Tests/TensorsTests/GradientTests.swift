import FermataTestSupport
import Testing

@testable import FermataTensors

@Suite struct GradientTests {
  @Test func arithmetic() throws {
    var random = TestRandom()
    let shapes: [([Int], [Int])] = [
      ([5], [5]), ([3, 4], [4]), ([3, 1], [2, 1, 4]), ([], [2, 3]), ([1, 1], [3, 2]),
    ]
    for (a, b) in shapes {
      let (x, y) = (try random.tensor(a), try random.uniform(b, 1, 2))
      let inputs = [x, y]
      try gradientCheck("\(a) + \(b)", inputs) { [try $0[0] + $0[1]] }
      try gradientCheck("\(a) - \(b)", inputs) { [try $0[0] - $0[1]] }
      try gradientCheck("\(a) * \(b)", inputs) { [try $0[0] * $0[1]] }
      try gradientCheck("\(a) / \(b)", inputs) { [try $0[0] / $0[1]] }
      try gradientCheck("\(b) / \(a)", [y, x]) { [try $0[1] / $0[0]] }
    }
    let x = try random.uniform([7], 1, 2)
    try gradientCheck("numbers", [x]) { x in
      [
        try x[0] + 3, try 3 + x[0], try x[0] - 3, try 3 - x[0], try x[0] * 3, try 3 * x[0], try x[0] / 3, try 3 / x[0],
        try -x[0],
      ]
    }
    try gradientCheck("x * x", [x]) { [try $0[0] * $0[0] + $0[0] / $0[0] - $0[0]] }
  }

  @Test func functions() throws {
    var random = TestRandom()
    typealias Function = @Sendable (Tensor) throws -> Tensor
    let anywhere: [(String, Function)] = [
      ("exp", { try $0.exp() }), ("squared", { try $0.squared() }), ("sigmoid", { try $0.sigmoid() }),
      ("logSigmoid", { try $0.logSigmoid() }), ("tanh", { try $0.tanh() }), ("silu", { try $0.silu() }),
      ("eluPlusOne", { try $0.eluPlusOne() }),
      ("gelu", { try $0.gelu() }),
      ("softplus", { try $0.softplus() }), ("sine", { try $0.sine() }), ("cosine", { try $0.cosine() }),
      ("softmax", { try $0.softmax() }), ("logSoftmax", { try $0.logSoftmax() }),
    ]
    for (name, function) in anywhere {
      try gradientCheck(name, [random.tensor([3, 5])]) { [try function($0[0])] }
      try gradientCheck("\(name) of a view", [random.tensor([5, 3])]) { [try function($0[0].transposed(0, 1))] }
    }
    let positive: [(String, Function)] = [
      ("log", { try $0.log() }), ("sqrt", { try $0.sqrt() }),
      ("reciprocalSquareRoot", { try $0.reciprocalSquareRoot() }),
      ("absolute", { try $0.absolute() }), ("relu", { try $0.relu() }), ("negative relu", { try (-$0).relu() + $0 }),
      ("negative absolute", { try (-$0).absolute() }),
    ]
    for (name, function) in positive { try gradientCheck(name, [random.uniform([17], 1, 2)]) { [try function($0[0])] } }
  }

  @Test func views() throws {
    var random = TestRandom()
    let x = try random.tensor([2, 3, 4])
    typealias Function = @Sendable (Tensor) throws -> [Tensor]
    let cases: [(String, Function)] = [
      ("reshaped", { [try $0.reshaped([4, 6]) * 2] }),
      ("reshaped copy", { [try $0.transposed(0, 1).reshaped([6, 4])] }),
      ("transposed", { [try $0.transposed([2, 0, 1])] }), ("contiguous", { [try $0.transposed(0, 2).contiguous()] }),
      ("slice", { [try $0.slice(1..<3, axis: 1)] }), ("empty slice", { [try $0.slice(1..<1, axis: 1), $0] }),
      ("select", { [try $0.select(2, axis: 2)] }), ("split", { try $0.split(sizes: [1, 0, 3], axis: 2) }),
      ("padded", { [try $0.padded(axis: 1, before: 2, after: 1)] }), ("expanded", { [try $0.expanded(at: -1)] }),
      ("broadcast", { [try $0.expanded(at: 1).broadcast(to: [3, 2, 5, 3, 4])] }),
      ("concatenated", { [try Tensor.concatenated([$0, $0.slice(0..<1, axis: 1), $0], axis: 1)] }),
      ("overlapping slices", { [try $0.slice(0..<2, axis: 1) * $0.slice(1..<3, axis: 1)] }),
      (
        "split and used twice",
        {
          let parts = try $0.split(sizes: [2, 1], axis: 1)
          return [try parts[0] * parts[1], try parts[0] + 1]
        }
      ),
    ]
    for (name, function) in cases { try gradientCheck(name, [x]) { try function($0[0]) } }
  }

  @Test func reductionsAndProducts() throws {
    var random = TestRandom()
    let x = try random.tensor([3, 4, 2])
    for axis in 0..<3 {
      for keeping in [false, true] {
        try gradientCheck("sum \(axis)", [x]) { [try $0[0].sum(axis: axis, keepingAxis: keeping)] }
        try gradientCheck("mean \(axis)", [x]) { [try $0[0].mean(axis: axis, keepingAxis: keeping)] }
        let spaced = try Tensor((0..<24).shuffled(using: &random).map(Float.init), shape: [3, 4, 2])
        try gradientCheck("maximum \(axis)", [spaced]) { [try $0[0].maximum(axis: axis, keepingAxis: keeping)] }
      }
      try gradientCheck("cumulativeSum \(axis)", [x]) {
        [try $0[0].cumulativeSum(axis: axis), try $0[0].cumulativeSum(axis: axis, reverse: true)]
      }
    }
    try gradientCheck("sum and mean of all", [x]) { [try $0[0].sum(), try $0[0].squared().mean()] }
    let shapes: [([Int], [Int])] = [
      ([3, 4], [4, 5]), ([2, 3, 4], [4, 5]), ([3, 4], [2, 4, 5]), ([2, 1, 3, 4], [1, 3, 4, 2]), ([1, 1], [1, 1]),
      ([2, 1, 4], [2, 4, 1]),
    ]
    for (a, b) in shapes {
      try gradientCheck("\(a) by \(b)", [random.tensor(a), random.tensor(b)]) { [try matmul($0[0], $0[1])] }
    }
    try gradientCheck("transposed operands", [random.tensor([4, 3]), random.tensor([5, 4])]) {
      [try matmul($0[0].transposed(0, 1), $0[1].transposed(0, 1))]
    }
    try gradientCheck("a square", [random.tensor([3, 3])]) { [try matmul($0[0], $0[0])] }
  }

  @Test func selectionAndIndexing() throws {
    var random = TestRandom()
    let flags = try random.flags([3, 1], probability: 0.5)
    try gradientCheck("selecting", [random.tensor([3, 4]), random.tensor([4])]) {
      [try Tensor.selecting(flags, $0[0], $0[1])]
    }
    let indices = try Tensor([Int32(2), 0, 2, 2, 1, 0], shape: [2, 3])
    try gradientCheck("rows", [random.tensor([4, 5])]) { [try $0[0].rows(at: indices)] }
  }

  @Test func castsReturnGradientsInTheInputsType() throws {
    let x = try Tensor([1, 2, 3]).tracked()
    let y = try x.cast(to: .bfloat16) * Tensor([1, 2, 3]).cast(to: .bfloat16)
    let found = try gradients(of: [(y, Tensor([1, 10, 100]).cast(to: .bfloat16))])
    #expect(found[x]?.dtype == .float32)
    #expect(try found[x]?.floats() == [1, 20, 300])
    #expect(try !x.cast(to: .int32).isTracked)
  }

  @Test func severalSeedsAddUp() throws {
    let x = try Tensor([1, 2]).tracked()
    let (a, b) = (try x * 3, try x.squared())
    let found = try gradients(of: [
      (a, Tensor([1, 0])), (b, Tensor([0, 10])), (a, Tensor([5, 5])), (try x.sum(), nil),
    ])
    #expect(try found[x]?.floats() == [3 + 15 + 1, 40 + 15 + 1])
  }

  @Test func leavesThatDoNotMatterHaveNone() throws {
    let (x, y) = (try Tensor([1]).tracked(), try Tensor([2]).tracked())
    let found = try gradients(of: (x * y.detached).sum())
    #expect(try found[x]?.floats() == [2])
    #expect(found[y] == nil)
    #expect(try found[Tensor([1])] == nil)
    #expect(try gradients(of: Tensor(1))[x] == nil)
    #expect(try gradients(of: x)[x]?.floats() == [1])
    #expect(try gradients(of: [])[x] == nil)
  }

  @Test func graphsMayBeWalkedTwice() throws {
    let x = try Tensor([3]).tracked()
    let loss = try (x * x).sum()
    for _ in 0..<2 { #expect(try gradients(of: loss)[x]?.floats() == [6]) }
  }

  @Test func wrongSeedsThrow() throws {
    let x = try Tensor([1, 2]).tracked()
    let y = try x * 2
    #expect(throws: TensorError.self) { try gradients(of: y) }
    #expect(throws: TensorError.self) { try gradients(of: [(y, Tensor([1]))]) }
    #expect(throws: TensorError.self) { try gradients(of: [(y, Tensor([1, 1]).cast(to: .bfloat16))]) }
  }

  /// Freeing a long history must not take a stack frame an operation.
  @Test func aLongChainIsWalkedAndFreed() throws {
    let x = try Tensor([0]).tracked()
    var y = x
    for _ in 0..<200_000 { y = try y + 1 }
    #expect(try y.floats() == [200_000])
    #expect(try gradients(of: y)[x]?.floats() == [1])
    var shared = x
    for _ in 0..<1000 { shared = try shared + shared * 0.5 }
    #expect(shared.isTracked)
  }
}
