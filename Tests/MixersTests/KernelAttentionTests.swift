import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

@Suite struct KernelAttentionTests {
  struct Size: Sendable, CustomStringConvertible {
    var batch = 1
    var queries: Int
    var keys: Int
    var heads = 2
    var groups = 1
    var width = 8
    var valueWidth = 8
    var description: String { "\(batch)×(\(queries), \(keys))×\(heads)/\(groups)×(\(width), \(valueWidth))" }

    func inputs(_ dtype: DType, _ random: inout TestRandom) throws -> [Tensor] {
      [
        try random.tensor([batch, queries, heads, width], dtype),
        try random.tensor([batch, keys, groups, width], dtype),
        try random.tensor([batch, keys, groups, valueWidth], dtype),
      ]
    }
  }

  /// Over few keys the gradient of scores is a small difference of numbers around one, each rounded to bf16.
  static func gradient(_ dtype: DType) -> Tolerance {
    dtype == .bfloat16 ? Tolerance(ratio: 1.5e-2, floor: 2e-3) : .fusedGradient(dtype)
  }

  static func compare(_ size: Size, _ mask: AttentionMask, _ dtype: DType, _ label: String, _ random: inout TestRandom)
    throws
  {
    try expectSame(
      "attention \(dtype) \(size) \(label)", size.inputs(dtype, &random), output: .fused(dtype),
      gradient: gradient(dtype),
      fused: { [try attention($0[0], $0[1], $0[2], mask: mask)] },
      reference: { [try attentionReference($0[0], $0[1], $0[2], mask: mask)] })
  }

  /// Causal or not, window, sinks, prefix, positions with gaps, documents with padding, extra visibility: all together and apart.
  @Test(arguments: [DType.float32, .bfloat16]) func everyCombinationOfMasks(_ dtype: DType) throws {
    try onEveryPath(emulatesTiles: true) { path in
      var random = TestRandom("masks \(dtype)")
      for bits in 0..<128 {
        func has(_ bit: Int) -> Bool { bits & (1 << bit) != 0 }
        let size = Size(batch: 2, queries: 19, keys: has(6) ? 19 : 26)
        var mask = AttentionMask(isCausal: has(0))
        if has(1) { mask.window = random.int(1...9) }
        if has(2) { mask.sinks = random.int(1...4) }
        if has(3) { mask.prefix = random.int(1...8) }
        if has(4) {
          func positions(_ rows: Int, _ count: Int, from start: Int) throws -> Tensor {
            let values = (0..<rows).flatMap { _ in
              (0..<count).reduce(into: [Int32(start)]) { list, _ in
                list.append((list.last ?? 0) + Int32(random.int(1...2)))
              }.dropLast()
            }
            return try Tensor(values, shape: [rows, count])
          }
          mask.queryPositions = try positions(has(1) ? 1 : 2, size.queries, from: 9)
          mask.keyPositions = try positions(has(2) ? 1 : 2, size.keys, from: 3)
        }
        if has(5) {
          func documents(_ count: Int) throws -> Tensor {
            let values = (0..<2).flatMap { _ in (0..<count).map { _ in Int32(random.int(-1...1)) } }
            return try Tensor(values, shape: [2, count])
          }
          mask.queryDocuments = try documents(size.queries)
          mask.keyDocuments = try documents(size.keys)
        }
        if has(6) { mask.visible = try random.flags([has(0) ? 1 : 2, size.queries, size.keys], probability: 0.6) }
        try Self.compare(
          size, mask, dtype, "mask \(bits): \(mask.isCausal) \(mask.window) \(mask.sinks) \(mask.prefix)", &random)
      }
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func awkwardSizes(_ dtype: DType) throws {
    let sizes = [
      Size(queries: 1, keys: 1), Size(queries: 2, keys: 2), Size(queries: 3, keys: 3), Size(queries: 63, keys: 63),
      Size(queries: 64, keys: 64),
      Size(queries: 65, keys: 65), Size(queries: 100, keys: 100), Size(queries: 1, keys: 65),
      Size(queries: 1, keys: 300),
      Size(queries: 5, keys: 100), Size(queries: 65, keys: 3),
      Size(batch: 2, queries: 33, keys: 70, heads: 6, groups: 2, width: 64, valueWidth: 64),
      Size(queries: 20, keys: 20, heads: 3, groups: 3, width: 1, valueWidth: 3),
      Size(queries: 9, keys: 130, heads: 8, groups: 1, width: 33, valueWidth: 65),
      Size(queries: 17, keys: 17, heads: 1, groups: 1, width: 128, valueWidth: 100),
      Size(queries: 130, keys: 257, width: 16, valueWidth: 16),
    ]
    try onEveryPath(emulatesTiles: true) { path in
      var random = TestRandom("sizes \(dtype)")
      for size in sizes {
        for mask in [AttentionMask.everything, .causal, AttentionMask(isCausal: true, window: 40, sinks: 2)] {
          try Self.compare(size, mask, dtype, "causal \(mask.isCausal) window \(mask.window)", &random)
        }
      }
    }
  }

  /// Capped scores: caps that bend everything and hardly anything, few queries and many, with and without a mask.
  @Test(arguments: [DType.float32, .bfloat16]) func softcap(_ dtype: DType) throws {
    let sizes = [
      Size(queries: 1, keys: 65), Size(queries: 3, keys: 300, heads: 4, groups: 2),
      Size(batch: 2, queries: 65, keys: 65, heads: 4, groups: 2, width: 33, valueWidth: 20),
      Size(queries: 100, keys: 130, width: 16, valueWidth: 16),
    ]
    try onEveryPath(emulatesTiles: true) { path in
      var random = TestRandom("softcap \(dtype)")
      for (size, cap) in zip(sizes + sizes, [0.3, 0.7, 2, 0.5, 30, 50, 5, 20] as [Float]) {
        for mask in [AttentionMask.everything, .causal, AttentionMask(isCausal: true, window: 40)] {
          try expectSame(
            "softcap \(cap) \(dtype) \(size)", size.inputs(dtype, &random), output: .fused(dtype),
            gradient: Self.gradient(dtype),
            fused: { [try attention($0[0], $0[1], $0[2], mask: mask, scale: 0.9, softcap: cap)] },
            reference: { [try attentionReference($0[0], $0[1], $0[2], mask: mask, scale: 0.9, softcap: cap)] })
        }
      }
    }
    var random = TestRandom()
    try gradientCheck("softcap", Size(queries: 3, keys: 5, groups: 2).inputs(.float32, &random), step: 0.02) {
      let (output, statistics) = try attentionWithStatistics($0[0], $0[1], $0[2], mask: .causal, softcap: 0.8)
      return [output, statistics]
    }
  }

  @Test func gradientsByDifferences() throws {
    var random = TestRandom()
    let size = Size(batch: 2, queries: 4, keys: 5, heads: 4, groups: 2, width: 3, valueWidth: 2)
    try gradientCheck("attention", size.inputs(.float32, &random), step: 0.02) {
      let (output, statistics) = try attentionWithStatistics($0[0], $0[1], $0[2], mask: .causal, scale: 0.7)
      return [output, statistics]
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func viewsAreReadWhereTheyLie(_ dtype: DType) throws {
    try withSteadyProcess {
      var random = TestRandom()
      let joined = try random.tensor([2, 9, 4, 24], dtype)
      let parts = try [0..<8, 8..<16, 16..<24].map { try joined.slice($0, axis: 3) }
      let copies = try parts.map { try $0.contiguous() }
      try expectSameBits(
        attention(parts[0], parts[1], parts[2], mask: .causal),
        attention(copies[0], copies[1], copies[2], mask: .causal))
      let headsFirst = try copies.map { try $0.transposed(1, 2).contiguous().transposed(1, 2) }
      try expectSameBits(
        attention(headsFirst[0], headsFirst[1], headsFirst[2], mask: .causal),
        attention(copies[0], copies[1], copies[2], mask: .causal))
      let one = try copies[1].slice(0..<1, axis: 0).broadcast(to: copies[1].shape)
      try expectSameBits(
        attention(copies[0], one, one, mask: .everything),
        attention(copies[0], one.contiguous(), one.contiguous(), mask: .everything))
    }
  }

  /// Outputs over two parts of the keys, joined by their sums of exponentials, are the output over all keys.
  @Test(arguments: [DType.float32, .bfloat16]) func partsOfTheKeysMerge(_ dtype: DType) throws {
    var random = TestRandom("merge \(dtype)")
    for (queries, keys, cut) in [(1, 65, 64), (20, 33, 7), (5, 100, 1), (64, 64, 40)] {
      let inputs = try Size(queries: queries, keys: keys, heads: 4, groups: 2).inputs(dtype, &random)
      func masked(_ range: Range<Int>) throws -> AttentionMask {
        var mask = AttentionMask(isCausal: true)
        mask.queryPositions = try Tensor.range(queries, from: Double(keys - queries)).reshaped([1, queries])
        mask.keyPositions = try Tensor.range(range.count, from: Double(range.lowerBound)).reshaped([1, range.count])
        return mask
      }
      func part(_ x: [Tensor], _ range: Range<Int>) throws -> (output: Tensor, logSumExp: Tensor) {
        try attentionWithStatistics(x[0], x[1].slice(range, axis: 1), x[2].slice(range, axis: 1), mask: masked(range))
      }
      // Queries that see nothing in a part have -infinity there, which no arithmetic of the merge may turn into NaN.
      func merged(_ x: [Tensor]) throws -> [Tensor] {
        let (a, b) = (try part(x, 0..<cut), try part(x, cut..<keys))
        let share = try (b.logSumExp - a.logSumExp).sigmoid().transposed(1, 2).expanded(at: 3)
        let output = try a.output.cast(to: .float32) * (1 - share) + b.output.cast(to: .float32) * share
        return [try output.cast(to: dtype)]
      }
      let whole = try part(inputs, 0..<keys).output
      try expectClose(merged(inputs)[0], whole, .fused(dtype), "\(dtype) (\(queries), \(keys)) cut at \(cut)")
      // Through the merge, gradients flow by the statistics as well. (Where a part is unseen they would be infinity minus infinity.)
      guard keys - queries >= cut else { continue }
      try expectSame(
        "merged \(dtype) (\(queries), \(keys))", inputs, output: .fused(dtype), gradient: Self.gradient(dtype),
        fused: merged,
        reference: { [try attentionReference($0[0], $0[1], $0[2], mask: masked(0..<keys))] })
    }
  }

  @Test(arguments: [DType.float32, .bfloat16]) func threadsDoNotMatter(_ dtype: DType) throws {
    var random = TestRandom()
    for size in [
      Size(batch: 2, queries: 130, keys: 130, heads: 4, groups: 2, width: 32, valueWidth: 32),
      Size(queries: 1, keys: 700),
    ] {
      let inputs = try size.inputs(dtype, &random)
      try expectThreadsDoNotMatter("attention \(dtype) \(size)", emulatesTiles: true) {
        let (outputs, found) = try outputsAndGradients(inputs) {
          let (output, statistics) = try attentionWithStatistics($0[0], $0[1], $0[2], mask: .causal)
          return [output, statistics]
        }
        return outputs + found.compactMap { $0 }
      }
    }
  }

  @Test func nothingToSeeGivesZeros() throws {
    var random = TestRandom()
    for dtype in [DType.float32, .bfloat16] {
      var mask = AttentionMask.everything
      mask.visible = try Tensor.zeros([1, 3, 4], .uint8)
      let inputs = try Size(queries: 3, keys: 4).inputs(dtype, &random).map { $0.tracked() }
      let (output, statistics) = try attentionWithStatistics(inputs[0], inputs[1], inputs[2], mask: mask)
      #expect(try output.floats().allSatisfy { $0 == 0 } && statistics.floats().allSatisfy { $0 == -.infinity })
      let found = try gradients(of: [(output, Tensor.ones(output.shape, dtype))])
      for input in inputs { #expect(try found[input]?.floats().allSatisfy { $0 == 0 } == true) }
      let none = try Size(queries: 3, keys: 0).inputs(dtype, &random)
      #expect(try attention(none[0], none[1], none[2], mask: .causal).floats().allSatisfy { $0 == 0 })
      let silent = try Size(queries: 0, keys: 4).inputs(dtype, &random)
      let results = try outputsAndGradients(silent) { [try attention($0[0], $0[1], $0[2], mask: .causal)] }
      #expect(results.outputs[0].shape == [1, 0, 2, 8])
      #expect(try results.gradients[1]?.floats().allSatisfy { $0 == 0 } ?? true)
    }
  }

  @Test func wrongArgumentsThrow() throws {
    let (q, k) = (try Tensor.zeros([1, 3, 4, 8]), try Tensor.zeros([1, 5, 2, 8]))
    var documents = AttentionMask.causal
    documents.queryDocuments = try Tensor.zeros([1, 3], .int32)
    var positions = AttentionMask.causal
    positions.queryPositions = try Tensor.zeros([1, 4], .int32)
    var visible = AttentionMask.causal
    visible.visible = try Tensor.zeros([2, 3, 5], .uint8)
    let wrong: [() throws -> Tensor] = [
      { try attention(q, Tensor.zeros([1, 5, 3, 8]), Tensor.zeros([1, 5, 3, 8]), mask: .causal) },
      { try attention(q, k, Tensor.zeros([1, 4, 2, 8]), mask: .causal) },
      { try attention(q, k.cast(to: .bfloat16), k, mask: .causal) },
      { try attention(q, Tensor.zeros([1, 5, 2, 7]), k, mask: .causal) },
      { try attention(q, Tensor.zeros([1, 5, 0, 8]), Tensor.zeros([1, 5, 0, 8]), mask: .causal) },
      { try attention(q.select(0, axis: 0), k, k, mask: .causal) }, { try attention(q, k, k, mask: documents) },
      { try attention(q, k, k, mask: positions) }, { try attention(q, k, k, mask: visible) },
      { try attention(q, k, k, mask: AttentionMask(window: -1)) },
      { try attention(q, k, k, mask: AttentionMask(prefix: -2)) },
      { try attention(q, k, k, mask: .causal, softcap: -1) }, { try attention(q, k, k, mask: .causal, softcap: 0) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
  }
}
