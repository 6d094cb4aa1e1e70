import FermataFiles
import FermataLayers
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataMixers

/// What papers claim of single mechanisms beyond the laws that all keep: Documentation/Systems.md names these tests.
@Suite struct PublishedClaimTests {
  /// Gates that forget nearly all, token after token: a chunked form that divides by products of them overflows (GLA, Yang et al.
  /// 2024).
  @Test func gatesNearZeroDoNotOverflow() throws {
    var random = TestRandom()
    let shape = [1, 8192, 1, 4]
    let inputs = try (0..<3).map { _ in try random.tensor(shape) } + [random.uniform(shape, -60, 0)]
    let slow = try gatedScanReference(
      query: inputs[0], key: inputs[1], value: inputs[2], gate: inputs[3], state: nil, scale: 1)
    try onEveryPath { _ in
      let leaves = inputs.map { $0.tracked() }
      let fast = try gatedScan(
        query: leaves[0], key: leaves[1], value: leaves[2], gate: leaves[3], state: nil, scale: 1)
      try expectClose(fast.output.detached, slow.output, .fused(.float32), "outputs")
      try expectClose(fast.state.detached, slow.state, .fused(.float32), "state")
      let found = try gradients(of: fast.output.sum())
      for leaf in leaves { #expect(try #require(found[leaf]).floats().allSatisfy(\.isFinite)) }
    }
  }

  /// Aaren's state after 100,000 tokens has the size it began with, and is that of one pass (Feng et al. 2024).
  @Test func aarenStreamsFar() throws {
    var (random, source) = (TestRandom(), RandomSource(seed: 3))
    let aaren = try Aaren(width: 12, options: .init(heads: 3), random: &source)
    let piece = try Piece(random.tensor([1, 100_000, 12]))
    var (whole, parts) = (try aaren.initialState(batch: 1), try aaren.initialState(batch: 1))
    let size = parts.byteCount
    _ = try aaren(piece, state: &whole)
    for start in stride(from: 0, to: 100_000, by: 1000) {
      _ = try aaren(piece.slice(start..<start + 1000), state: &parts)
    }
    #expect(parts.byteCount == size)
    try expectSameState(parts, whole, LawTolerance.state(.float32), "100,000 tokens in pieces")
  }

  /// Over a sum of features that vanish gradients grow without bound; under a norm they do not (TransNormer, Qin et al. 2022).
  @Test func aNormBoundsGradients() throws {
    let vanishing: [Float] = [1e-4, 1e-5, 1e-6]
    let (sum, norm) = (
      try vanishing.map { try keySlope("sum", keys: $0) }, try vanishing.map { try keySlope("norm", keys: $0) }
    )
    #expect(sum[2] > 20 * sum[0], "\(sum)")
    #expect(norm[2] < 1.1 * norm[0], "\(norm)")
  }

  /// The largest gradient of a weight that makes keys, when those weights are scaled so.
  private func keySlope(_ normalization: String, keys scale: Float) throws -> Float {
    var source = RandomSource(seed: 5)
    let settings =
      #"{"type": "linear_attention", "num_heads": 1, "feature_map": "relu", "normalization": "\#(normalization)"}"#
    var mixer = try MixerRegistry.standard.make(
      width: 8, configuration: StrictJSON.parse(Array(settings.utf8), place: "test"), random: &source)
    var weight = try Tensor.zeros([1])
    try mixer.updateParameters { name, value in
      guard name == "in_proj.weight" else { return }
      let parts = try value.split(sizes: [8, 8, 8], axis: 0)
      value = try Tensor.concatenated([parts[0], parts[1] * scale, parts[2]], axis: 0).tracked()
      weight = value
    }
    var (random, state) = (TestRandom("key slope"), try mixer.initialState(batch: 2))
    let output = try mixer(Piece(random.tensor([2, 12, 8])), state: &state)
    let found = try #require(gradients(of: [(output, random.tensor(output.shape))])[weight])
    return try found.slice(8..<16, axis: 0).floats().map(abs).max() ?? 0
  }

  /// Four times the tokens take four times the memory, forward and backward, at 16,384 (FlashAttention, Dao et al. 2022).
  @Test func attentionTakesLinearMemory() throws {
    var random = TestRandom()
    func peak(_ length: Int) throws -> Int {
      let leaves = try (0..<3).map { _ in try random.tensor([1, length, 1, 16]).tracked() }
      return try Memory.measure {
        _ = try gradients(of: attention(leaves[0], leaves[1], leaves[2], mask: .causal).sum())
      }.peak
    }
    let (short, long) = (try peak(4096), try peak(16_384))
    #expect(long <= 4 * short + 4096, "\(short) bytes, then \(long)")
    #expect(long < 16_384 * 16_384 / 4)
  }

  /// From 2,048 tokens on not slower than with the whole matrix of scores, forward and backward.
  @Test(.enabled(if: ProcessInfo.processInfo.environment["FERMATA_LONG_TESTS"] == "1"), arguments: [2048, 4096])
  func noSlowerThanNaive(_ length: Int) throws {
    try withSteadyProcess {
      var random = TestRandom()
      let leaves = try (0..<3).map { _ in try random.tensor([1, length, 4, 64]).tracked() }
      func seconds(_ run: () throws -> Tensor) throws -> Double {
        let times = try (0..<3).map { _ in
          try ContinuousClock().measure { _ = try gradients(of: run().sum()) }.components
        }
        return times.map { Double($0.seconds) + Double($0.attoseconds) * 1e-18 }.sorted()[1]
      }
      let naive = try seconds { try attentionReference(leaves[0], leaves[1], leaves[2], mask: .causal) }
      let tiled = try seconds { try attention(leaves[0], leaves[1], leaves[2], mask: .causal) }
      print("attention over \(length) tokens: \(naive / tiled) times as fast as naive (\(tiled * 1e3) ms)")
      #expect(tiled <= naive)
    }
  }
}
