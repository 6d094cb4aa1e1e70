import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

@Suite struct KernelScanTests {
  struct Problem: Sendable, CustomStringConvertible {
    var batch = 1
    var length: Int
    var heads = 2
    /// Heads of queries and keys; as many as of values without it.
    var keyHeads: Int?
    /// Whether values are written by weights between 0 and 2.
    var weighted = false
    var width = 8
    var valueWidth = 8
    var vectorGate = true
    /// The delta rule, with rates below this; keys are then of length one.
    var rate: Float?
    var startsFromState = true
    var resets = false
    /// Decays are between e^-strength and 1.
    var strength: Float = 1
    var description: String {
      "\(batch)×\(length)×\(heads)/\(keyHeads ?? heads)×(\(width), \(valueWidth)) \(vectorGate ? "vector" : "scalar") gate "
        + "to -\(strength), weights \(weighted), rates to \(rate ?? 0), state \(startsFromState), resets \(resets)"
    }

    /// query, key, value, gate and, where there are any, rates, weights and the state.
    func inputs(_ dtype: DType, _ random: inout TestRandom) throws -> [Tensor] {
      let keys = [batch, length, keyHeads ?? heads, width]
      let gateShape = [batch, length, heads] + (vectorGate ? [width] : [])
      let state = startsFromState ? [try random.tensor([batch, heads, width, valueWidth])] : []
      let rates = try rate.map { [try random.uniform([batch, length, heads], 0, $0)] } ?? []
      let weights = weighted ? [try random.uniform([batch, length, heads], 0, 2)] : []
      var key = try random.tensor(keys)
      if rate != nil { key = try key * (key.squared().sum(axis: 3, keepingAxis: true) + 1e-6).reciprocalSquareRoot() }
      return [
        try random.tensor(keys, dtype), try key.cast(to: dtype),
        try random.tensor([batch, length, heads, valueWidth], dtype), try random.uniform(gateShape, -strength, 0),
      ] + rates + weights + state
    }

    typealias Scan = (Tensor, Tensor, Tensor, Tensor, Tensor?, Tensor?, Tensor?, Tensor?, Float) throws -> (
      Tensor, Tensor
    )

    /// The inputs through the fused form or its reference.
    func run(_ scan: Scan, _ x: [Tensor], resets: Tensor? = nil, scale: Float = 1) throws -> [Tensor] {
      let state = startsFromState ? x[x.count - 1] : nil
      let (y, s) = try scan(
        x[0], x[1], x[2], x[3], rate == nil ? nil : x[4], weighted ? x[4] : nil, state, resets, scale)
      return [y, s]
    }

    func compare(_ dtype: DType, _ random: inout TestRandom) throws {
      let flags = resets ? try random.flags([batch, length], probability: 0.1) : nil
      let scale = 1 / Float(width).squareRoot()
      try expectSame(
        "scan \(dtype) \(self)", inputs(dtype, &random), output: .fused(dtype), gradient: .fusedGradient(dtype),
        fused: { try run(gatedScan, $0, resets: flags, scale: scale) },
        reference: { try run(gatedScanReference, $0, resets: flags, scale: scale) })
    }
  }

  @Test(arguments: [DType.float32, .bfloat16], [true, false]) func matchesSimpleOperations(
    _ dtype: DType, vectorGate: Bool
  ) throws {
    try onEveryPath(emulatesTiles: true) { path in
      var random = TestRandom("scan \(dtype) \(vectorGate)")
      for length in [1, 2, 3, 8, 9, 63, 64, 65, 100] {
        for (state, resets) in [(true, true), (false, false)] {
          try Problem(batch: 2, length: length, vectorGate: vectorGate, startsFromState: state, resets: resets).compare(
            dtype, &random)
        }
      }
      for (width, valueWidth, heads) in [(1, 1, 1), (3, 65, 2), (33, 2, 3), (64, 64, 1), (65, 100, 1)] {
        try Problem(length: 70, heads: heads, width: width, valueWidth: valueWidth, vectorGate: vectorGate).compare(
          dtype, &random)
      }
    }
  }

  /// Heads that share queries and keys, in one task and in several, and weights.
  @Test(arguments: [DType.float32, .bfloat16]) func sharesKeys(_ dtype: DType) throws {
    try onEveryPath(emulatesTiles: true) { path in
      var random = TestRandom("shared keys \(dtype)")
      for (batch, length, heads, keyHeads) in [
        (1, 5, 4, 2), (1, 130, 8, 1), (3, 70, 6, 2), (8, 33, 3, 1), (2, 64, 4, 4),
      ] {
        for resets in [true, false] {
          try Problem(
            batch: batch, length: length, heads: heads, keyHeads: keyHeads, weighted: resets || heads == 8, width: 20,
            valueWidth: 18, vectorGate: false, startsFromState: length != 64, resets: resets
          ).compare(dtype, &random)
        }
      }
      // States too large for one task, and heads that are repeated for want of another way.
      try Problem(length: 70, heads: 4, keyHeads: 1, width: 200, valueWidth: 130, vectorGate: false).compare(
        dtype, &random)
      try Problem(length: 20, heads: 4, keyHeads: 2).compare(dtype, &random)
      try Problem(length: 20, heads: 4, keyHeads: 2, vectorGate: false, rate: 1, strength: 0.1).compare(dtype, &random)
    }
  }

  /// The delta rule, without decay, with it, with rates up to 2, and with tiles that documents cut short.
  @Test(arguments: [DType.float32, .bfloat16]) func correctsWhatIsThere(_ dtype: DType) throws {
    try onEveryPath { path in
      var random = TestRandom("delta rule \(dtype)")
      for length in [1, 2, 3, 8, 9, 16, 17, 63, 64, 65, 100] {
        for (strength, rate): (Float, Float) in [(1e-6, 1), (0.5, 2)] {
          for vectorGate in [true, false] {
            try Problem(
              batch: 2, length: length, vectorGate: vectorGate, rate: rate, startsFromState: length % 3 != 0,
              resets: rate == 2, strength: strength
            ).compare(dtype, &random)
          }
        }
      }
      for (width, valueWidth, heads) in [(1, 1, 1), (3, 65, 2), (33, 2, 3), (64, 64, 1), (65, 100, 1)] {
        try Problem(length: 70, heads: heads, width: width, valueWidth: valueWidth, rate: 1.5, strength: 0.1).compare(
          dtype, &random)
      }
    }
  }

  /// A chunked form that divides by decays gives infinities here.
  @Test(arguments: [DType.float32, .bfloat16], [true, false]) func strongDecay(_ dtype: DType, vectorGate: Bool) throws
  {
    try onEveryPath(emulatesTiles: true) { path in
      var random = TestRandom("strong decay \(dtype)")
      for strength: Float in [0, 20, 200, 1e4] {
        try Problem(length: 130, vectorGate: vectorGate, resets: strength == 20, strength: strength + 1e-6).compare(
          dtype, &random)
      }
    }
  }

  /// A document that overflows leaves nothing in the next one's state.
  @Test(arguments: [DType.float32, .bfloat16]) func forgetsWhatWasInfinite(_ dtype: DType) throws {
    try onEveryPath(emulatesTiles: true) { path in
      var random = TestRandom("infinite values \(dtype)")
      let problem = Problem(length: 100, keyHeads: 1, vectorGate: false, startsFromState: false)
      var inputs = try problem.inputs(dtype, &random)
      let overflowing = try Tensor.concatenated(
        [Tensor.ones([1, 70, 1, 1]) * .infinity, Tensor.ones([1, 30, 1, 1])], axis: 1
      ).cast(to: dtype)
      let starts = try Tensor((0..<100).map { UInt8($0 == 70 ? 1 : 0) }, shape: [1, 100])
      let fresh = try inputs.map { try $0.slice(70..<100, axis: 1) }
      inputs[2] = try inputs[2] * overflowing
      let after = try problem.run(gatedScan, inputs, resets: starts)[1]
      try expectClose(after, problem.run(gatedScan, fresh)[1], .fused(dtype), "state after \(path)")
    }
  }

  /// A gate of -infinity forgets everything, exactly, and never gives NaN.
  @Test(arguments: [true, false]) func infiniteDecay(_ vectorGate: Bool) throws {
    var random = TestRandom("infinite decay")
    let problem = Problem(length: 80, vectorGate: vectorGate)
    var inputs = try problem.inputs(.float32, &random)
    let hidden = try random.flags(inputs[3].shape, probability: 0.1)
    inputs[3] = try Tensor.selecting(hidden, Tensor(-.infinity), inputs[3])
    for rate in [nil, Float(1)] {
      var problem = problem
      problem.rate = rate
      let inputs =
        try Array(inputs.dropLast()) + (rate == nil ? [] : [random.uniform([1, 80, 2], 0, 1)])
        + [random.tensor([1, 2, 8, 8])]
      try onEveryPath { path in
        try expectSame(
          "infinite decay, rates \(rate ?? 0)", inputs, output: .fused(.float32), gradient: .fusedGradient(.float32),
          fused: { try problem.run(gatedScan, $0) }, reference: { try problem.run(gatedScanReference, $0) })
      }
    }
  }

  /// Also with a gradient at the final state alone and at the outputs alone.
  @Test(arguments: [true, false], [nil, Float(1.5)]) func gradientsByDifferences(_ vectorGate: Bool, rate: Float?)
    throws
  {
    var random = TestRandom()
    let problem = Problem(batch: 2, length: 5, width: 3, valueWidth: 2, vectorGate: vectorGate, rate: rate)
    let resets = try Tensor([UInt8(0), 0, 1, 0, 0, 1, 0, 0, 0, 1], shape: [2, 5])
    var inputs = try problem.inputs(.float32, &random)
    inputs[3] = try inputs[3] - 0.5  // differences must not take decays above 1
    try gradientCheck("gatedScan \(vectorGate) \(rate ?? 0)", inputs) {
      try problem.run(gatedScan, $0, resets: resets, scale: 0.6)
    }
  }

  /// Long enough not to go token by token, in two chunks.
  @Test func gradientsOfSharedKeysByDifferences() throws {
    var random = TestRandom("shared keys by differences")
    let problem = Problem(
      length: 66, heads: 2, keyHeads: 1, weighted: true, width: 2, valueWidth: 1, vectorGate: false)
    var inputs = try problem.inputs(.float32, &random)
    inputs[3] = try inputs[3] - 0.5
    try gradientCheck("gatedScan with weights", inputs) { try problem.run(gatedScan, $0, scale: 0.6) }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func threadsDoNotMatter(_ dtype: DType) throws {
    var random = TestRandom()
    for (vectorGate, rate, keyHeads) in [
      (true, nil, nil), (false, nil, 1), (false, nil, nil), (false, Float(1), nil), (true, 2, nil),
    ] {
      let problem = Problem(
        batch: 2, length: 150, heads: 3, keyHeads: keyHeads, width: 33, valueWidth: 40, vectorGate: vectorGate,
        rate: rate)
      let inputs = try problem.inputs(dtype, &random)
      try expectThreadsDoNotMatter("scan \(dtype) \(vectorGate) \(rate ?? 0)", emulatesTiles: true) {
        let (outputs, found) = try outputsAndGradients(inputs) { try problem.run(gatedScan, $0) }
        return outputs + found.compactMap { $0 }
      }
    }
  }

  /// Fewer heads than threads: the columns of a state are shared among them, in blocks that depend on how many there are.
  @Test(arguments: [DType.float32, .bfloat16]) func columnsMayBeSplit(_ dtype: DType) throws {
    var random = TestRandom()
    for (length, width, valueWidth) in [(150, 33, 100), (70, 16, 256), (5, 64, 300), (70, 5, 17)] {
      for (vectorGate, rate) in [(true, nil), (false, nil), (false, Float(1))] {
        let problem = Problem(
          length: length, heads: 1, width: width, valueWidth: valueWidth, vectorGate: vectorGate, rate: rate,
          resets: true)
        let inputs = try problem.inputs(dtype, &random)
        let flags = try random.flags([1, length], probability: 0.05)
        try expectThreadsDoNotMatter("\(dtype) \(problem)", emulatesTiles: true) {
          let (outputs, found) = try outputsAndGradients(inputs) { try problem.run(gatedScan, $0, resets: flags) }
          return outputs + found.compactMap { $0 }
        }
      }
    }
  }

  @Test func viewsAndEmptyPieces() throws {
    var random = TestRandom()
    let joined = try random.tensor([2, 70, 3, 24])
    let parts = try [0..<8, 8..<16, 16..<24].map { try joined.slice($0, axis: 3) }
    let copies = try parts.map { try $0.contiguous() }
    for gate in [try random.uniform([2, 70, 3, 8], -1, 0), try random.uniform([2, 3, 70], -1, 0).transposed(1, 2)] {
      let (a, s) = try gatedScan(query: parts[0], key: parts[1], value: parts[2], gate: gate, state: nil, scale: 1)
      let (b, t) = try gatedScan(
        query: copies[0], key: copies[1], value: copies[2], gate: gate.contiguous(), state: nil, scale: 1)
      try expectClose(a, b, .fused(.float32), "views")
      try expectClose(s, t, .fused(.float32), "views")
    }
    let empty = try copies[0].slice(0..<0, axis: 1)
    let state = try random.tensor([2, 3, 8, 8]).tracked()
    let (y, s) = try gatedScan(
      query: empty, key: empty, value: empty, gate: Tensor.zeros([2, 0, 3]), state: state, scale: 1)
    #expect(y.shape == [2, 0, 3, 8])
    try expectSameBits(s.detached, state.detached)
    let seed = try random.tensor(s.shape)
    try expectSameBits(#require(gradients(of: [(s, seed)])[state]), seed)
    let (_, zero) = try gatedScan(
      query: empty, key: empty, value: empty, gate: Tensor.zeros([2, 0, 3]), state: nil, scale: 1)
    #expect(try zero.floats().allSatisfy { $0 == 0 })
  }

  @Test func wrongShapesThrow() throws {
    let x = try Tensor.zeros([1, 4, 2, 3])
    let g = try Tensor.zeros([1, 4, 2])
    func scan(_ q: Tensor, _ k: Tensor, _ v: Tensor, _ g: Tensor, state: Tensor? = nil, resets: Tensor? = nil) throws
      -> Tensor
    {
      try gatedScan(query: q, key: k, value: v, gate: g, state: state, resets: resets, scale: 1).output
    }
    let wrong: [() throws -> Tensor] = [
      { try scan(x, Tensor.zeros([1, 4, 2, 4]), x, g) }, { try scan(x, x, Tensor.zeros([1, 3, 2, 3]), g) },
      { try scan(x, x, x, Tensor.zeros([1, 4, 3])) }, { try scan(x, x, x, g.cast(to: .bfloat16)) },
      { try scan(x, x.cast(to: .bfloat16), x, g) }, { try scan(x, x, x, g, state: Tensor.zeros([1, 2, 3, 4])) },
      { try scan(x, x, x, g, state: Tensor.zeros([1, 2, 3, 3], .bfloat16)) },
      {
        try gatedScan(query: x, key: x, value: x, gate: g, rate: Tensor.zeros([1, 4, 3]), state: nil, scale: 1).output
      },
      { try gatedScan(query: x, key: x, value: x, gate: x, weight: g, state: nil, scale: 1).output },
      { try gatedScan(query: x, key: x, value: x, gate: g, rate: g, weight: g, state: nil, scale: 1).output },
      { try gatedScan(query: x, key: x, value: x, gate: g, weight: x, state: nil, scale: 1).output },
      { try scan(Tensor.zeros([1, 4, 3, 3]), Tensor.zeros([1, 4, 3, 3]), x, g) },
      { try scan(x, x, x, g, resets: Tensor.zeros([1, 4])) },
      { try scan(x, x, x, g, resets: Tensor.zeros([1, 3], .uint8)) }, { try scan(g, g, g, g) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
  }
}
