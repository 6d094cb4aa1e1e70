import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

@Suite struct KernelRunningAverageTests {
  private static func problem(
    _ batch: Int, _ length: Int, _ heads: Int, _ width: Int, _ dtype: DType, _ random: inout TestRandom,
    deviation: Double = 2
  ) throws -> [Tensor] {
    [
      try random.tensor([batch, length, heads], deviation: deviation),
      try random.tensor([batch, length, heads, width], dtype), try random.tensor([batch, heads]),
      try random.tensor([batch, heads, width]),
    ]
  }

  @Test(arguments: [DType.float32, .bfloat16]) func matchesSoftmaxAttention(_ dtype: DType) throws {
    try onEveryPath { path in
      var random = TestRandom("running average \(dtype)")
      for (batch, length, heads, width) in [(1, 1, 1, 1), (2, 3, 2, 3), (1, 33, 3, 65), (3, 20, 1, 16), (2, 9, 2, 70)] {
        for isRagged in [false, true] {
          let resets = isRagged ? try random.flags([batch, length], probability: 0.2) : nil
          // Where a document's first token is padding nothing is seen yet, and the reference's log 0 has no gradient.
          let shown = isRagged ? try random.flags([batch, length], probability: 0.7) : nil
          let valid = try resets.flatMap { starts in
            try shown.map { try Tensor.selecting(starts, Tensor.ones([], .uint8), $0) }
          }
          try expectSame(
            "running average \(dtype) \(batch)×\(length)×\(heads)×\(width), ragged \(isRagged)",
            Self.problem(batch, length, heads, width, dtype, &random), output: .fused(dtype),
            gradient: .fusedGradient(dtype),
            fused: {
              let result = try runningAverage(
                scores: $0[0], values: $0[1], normalizer: $0[2], average: $0[3], resets: resets, valid: valid)
              return [result.averages, result.normalizer, result.average]
            },
            reference: {
              let result = try runningAverageReference(
                scores: $0[0], values: $0[1], normalizer: $0[2], average: $0[3], resets: resets, valid: valid)
              return [result.averages, result.normalizer, result.average]
            })
        }
      }
    }
  }

  /// Scores of thousands overflow any form that is not scaled by the largest.
  @Test func largeScores() throws {
    var random = TestRandom()
    let inputs = try Self.problem(2, 40, 2, 5, .float32, &random, deviation: 3_000)
    let fused = try runningAverage(scores: inputs[0], values: inputs[1], normalizer: inputs[2], average: inputs[3])
    let slow = try runningAverageReference(
      scores: inputs[0], values: inputs[1], normalizer: inputs[2], average: inputs[3])
    try expectClose(fused.averages, slow.averages, .fused(.float32))
    try expectClose(fused.normalizer, slow.normalizer, .fused(.float32))
  }

  /// A score that is no number spoils its head from there to the next document's start, openly, and nothing else.
  @Test func scoresThatAreNoNumbers() throws {
    var random = TestRandom()
    let inputs = try Self.problem(2, 12, 2, 3, .float32, &random)
    let resets = try Tensor((0..<24).map { UInt8($0 == 9 ? 1 : 0) }, shape: [2, 12])
    let hidden = try Tensor((0..<48).map { UInt8($0 == 2 * 5 + 1 ? 1 : 0) }, shape: [2, 12, 2])
    let spoiled = try Tensor.selecting(hidden, Tensor(Float.nan), inputs[0])
    try onEveryPath { _ in
      func run(_ scores: Tensor) throws -> [Float] {
        let result = try runningAverage(
          scores: scores, values: inputs[1], normalizer: inputs[2], average: inputs[3], resets: resets)
        #expect(try result.normalizer.floats().allSatisfy(\.isFinite))
        return try result.averages.floats()
      }
      let (clean, found) = (try run(inputs[0]), try run(spoiled))
      for (index, value) in found.enumerated() {
        let (row, token, head) = (index / 72, index / 6 % 12, index / 3 % 2)
        let isSpoiled = row == 0 && head == 1 && (5..<9).contains(token)
        #expect(isSpoiled ? value.isNaN : value == clean[index], "row \(row), token \(token), head \(head)")
      }
    }
  }

  /// Converted to bf16, Aaren's scores stay what they were: they are exponents.
  @Test func scoresAreNotRounded() throws {
    var random = TestRandom()
    var source = RandomSource(seed: 3)
    var aaren = try Aaren(width: 12, options: .init(heads: 3), random: &source)
    aaren.query = try aaren.query * 20
    let piece = try Piece(random.tensor([2, 17, 12], .bfloat16))
    func normalizer(_ mixer: Aaren) throws -> Tensor {
      var state = try mixer.initialState(batch: 2)
      _ = try mixer(piece, state: &state)
      return try state.tensor("log_normalizer")
    }
    try expectSameBits(normalizer(aaren.converted(to: .bfloat16)), normalizer(aaren))
  }

  /// From an empty state, padding first: nothing is seen, and nothing but zeros comes out.
  @Test func paddingBeforeEverything() throws {
    var random = TestRandom()
    let inputs = try Self.problem(2, 4, 2, 3, .float32, &random)
    let empty = try Tensor.full([2, 2], -.infinity)
    let result = try runningAverage(
      scores: inputs[0], values: inputs[1], normalizer: empty, average: Tensor.zeros([2, 2, 3]),
      valid: Tensor.zeros([2, 4], .uint8))
    try expectSameBits(result.normalizer, empty)
    try expectSameBits(result.averages, Tensor.zeros([2, 4, 2, 3]))
  }

  /// The mixer is causal attention in which every token asks the same question.
  @Test func aarenIsAttentionWithOneQuery() throws {
    var random = TestRandom()
    var source = RandomSource(seed: 3)
    let aaren = try Aaren(width: 12, options: .init(heads: 3), random: &source)
    let x = try random.tensor([2, 17, 12])
    var state = try aaren.initialState(batch: 2)
    let y = try aaren(Piece(x), state: &state)
    func heads(_ x: Tensor) throws -> Tensor { try x.reshaped([2, 17, 3, 4]) }
    let asked = try aaren.query + Tensor.zeros([2, 17, 3, 4])
    let mixed = try attentionReference(asked, heads(aaren.key(x)), heads(aaren.value(x)), mask: .causal, scale: 0.5)
    try expectClose(y, aaren.output(mixed.reshaped([2, 17, 12])), .fused(.float32))
  }

  @Test func wrongShapesThrow() throws {
    let (s, v) = (try Tensor.zeros([2, 4, 3]), try Tensor.zeros([2, 4, 3, 5]))
    let (n, a) = (try Tensor.zeros([2, 3]), try Tensor.zeros([2, 3, 5]))
    let wrong: [() throws -> (averages: Tensor, normalizer: Tensor, average: Tensor)] = [
      { try runningAverage(scores: s.cast(to: .bfloat16), values: v, normalizer: n, average: a) },
      { try runningAverage(scores: s, values: v.select(0, axis: 3), normalizer: n, average: a) },
      { try runningAverage(scores: s, values: v, normalizer: a, average: a) },
      { try runningAverage(scores: s, values: v, normalizer: n, average: n) },
      { try runningAverage(scores: s, values: v, normalizer: n, average: a, resets: Tensor.zeros([2, 4])) },
      { try runningAverage(scores: s, values: v, normalizer: n, average: a, valid: Tensor.zeros([2, 3], .uint8)) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { _ = try body() } }
  }
}
