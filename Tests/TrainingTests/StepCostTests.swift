import FermataFiles
import FermataModels
import FermataTensors
import Foundation
import Testing

@testable import FermataTraining

/// What a training step costs in counts, which are the same on every machine: a slower step shows here without a clock.
///
/// The most that each may cost stands in StepCosts.json. A change that costs more fails; one that costs less, or must cost
/// more, is recorded with `FERMATA_RECORD_COSTS=1 make test FILTER=StepCostTests`, and the file's difference is reviewed.
@Suite(.serialized) struct StepCostTests {
  struct Cost: Codable, Equatable {
    var flops: Int
    var bytes: Int
    var allocations: Int
    /// The most bytes of tensors at one time, above weights and optimiser.
    var peak: Int
    var primitives: Int
  }

  /// A mixture of memories is not among them: where its router sends tokens changes from step to step, and with it the shapes
  /// of products.
  private static let models: [(name: String, mixers: [JSONValue])] = [
    ("transformer", [["type": "softmax_attention", "num_attention_heads": 2]]),
    ("hybrid", [Fixture.linear, Fixture.linear, Fixture.windowed]),
    ("lstm", [Fixture.recurrent]),
    ("delta rule", [["type": "delta_rule", "num_heads": 2, "conv_size": 4]]),
    ("retnet", [["type": "retnet", "num_heads": 2]]),
    ("s4", [["type": "s4"]]),
    ("s5", [["type": "s5", "state_size": 32]]),
    ("h3", [["type": "h3"]]),
    ("mamba", [["type": "mamba"]]),
    ("mamba2", [["type": "mamba2", "head_dim": 16, "state_size": 16]]),
  ]

  @Test func stepsCostNoMoreThanRecorded() throws {
    var found: [String: Cost] = [:]
    for model in Self.models {
      for dtype in [DType.float32, .bfloat16] {
        found["\(model.name) \(dtype.rawValue)"] = try cost(model.mixers, dtype)
      }
    }
    if ProcessInfo.processInfo.environment["FERMATA_RECORD_COSTS"] == "1" { return try record(found) }
    let allowed = try JSONDecoder().decode([String: Cost].self, from: Data(contentsOf: Self.file))
    #expect(Set(allowed.keys) == Set(found.keys))
    for (name, cost) in found.sorted(by: { $0.key < $1.key }) {
      guard let bound = allowed[name] else { continue }
      expect("FLOPs", cost.flops, bound.flops, name)
      expect("bytes moved", cost.bytes, bound.bytes, name)
      expect("allocations", cost.allocations, bound.allocations, name)
      expect("peak bytes", cost.peak, bound.peak, name)
      #expect(cost.primitives == 0, "\(name): \(cost.primitives) primitives made in a step after warm-up")
      if cost.bytes < bound.bytes * 9 / 10 || cost.allocations < bound.allocations * 9 / 10 {
        print("\(name) costs a tenth less than recorded: FERMATA_RECORD_COSTS=1 make test FILTER=StepCostTests")
      }
    }
  }

  /// A hundredth more passes: a small tensor here or there is no regression.
  private func expect(_ what: String, _ cost: Int, _ bound: Int, _ name: String) {
    #expect(
      cost <= bound + bound / 100,
      "\(name): \(cost) \(what) a step, \(bound) recorded; if it must be, record it (see StepCostTests)")
  }

  /// The least of several steps after the first two. Work is counted for this thread alone; but the table of primitives is
  /// everyone's, and when it is full, what another suite does may clear it under one step.
  private func cost(_ mixers: [JSONValue], _ dtype: DType) throws -> Cost {
    var model = try LanguageModel(Fixture.configuration(layers: 3, mixers: mixers), seed: 3)
    model.computeType = dtype
    var optimizer = AdamW()
    let tokens = try Tensor((0..<128).map { Int32($0 * 37 % 256) }, shape: [2, 64])
    let piece = TokenPiece(tokens: tokens, targets: tokens, layout: .init(batch: 2, length: 64))
    func step() throws {
      let found = try PiecewiseGradient.truncated(model, piece, state: model.initialState(batch: 2), scale: 1 / 128)
      _ = try gradientNorm(found.gradients)
      try optimizer.update(&model, gradients: found.gradients, learningRate: 1e-3)
    }
    for _ in 0..<2 { try step() }
    let steps = try (0..<4).map { _ in
      let (measured, count) = try Work.measure { try Memory.measure(step) }
      return Cost(
        flops: count.flops, bytes: count.bytes, allocations: count.allocations, peak: measured.peak,
        primitives: count.primitives)
    }
    func least(_ value: (Cost) -> Int) -> Int { steps.map(value).min() ?? 0 }
    return Cost(
      flops: least(\.flops), bytes: least(\.bytes), allocations: least(\.allocations), peak: least(\.peak),
      primitives: least(\.primitives))
  }

  private static let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("StepCosts.json")

  private func record(_ costs: [String: Cost]) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    try (encoder.encode(costs) + Data("\n".utf8)).write(to: Self.file)
    print("recorded \(Self.file.path)")
  }
}
