import FermataLayers
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataMixers

/// Measurements, not laws: they print tokens per second and run with FERMATA_LONG_TESTS=1.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["FERMATA_LONG_TESTS"] == "1"), .serialized)
struct RecurrenceSpeedTests {
  /// Width 256, 8 × 1,024 tokens, forward and backward of one layer without output projection: what `torch.nn.LSTM` computes.
  @Test(arguments: NamedCell.all, [(1, DType.float32), (4, .float32), (1, .bfloat16), (4, .bfloat16)])
  func layer(_ named: NamedCell, setting: (heads: Int, dtype: DType)) throws {
    try withSteadyProcess {
      var random = TestRandom()
      let (batch, length, width, cell) = (8, 1024, 256, named.cell)
      let x = try random.tensor([batch, length, width], setting.dtype)
      let weight = try random.uniform([cell.gates * width, width], -0.06, 0.06).tracked()
      let recurrent = try random.uniform([cell.gates * width, width / setting.heads], -0.06, 0.06).tracked()
      let bias = try Tensor.zeros([cell.gates * width]).tracked()
      let states = try cell.emptyStates(batch: batch, width: width)
      var seconds: [Double] = []
      for _ in 0..<9 {
        let start = ContinuousClock.now
        let projections = try linear(x, weight: weight, bias: bias)
        let result = try recurrentScan(cell, projections: projections, recurrent: recurrent, states: states)
        _ = try gradients(of: result.output.sum())
        let time = start.duration(to: .now).components
        seconds.append(Double(time.seconds) + Double(time.attoseconds) * 1e-18)
      }
      let median = seconds.sorted()[seconds.count / 2]
      print(
        "\(named.name), \(setting.heads) heads, \(setting.dtype.rawValue): \(Int(Double(batch * length) / median)) tokens/s, "
          + "\(Int(median * 1e4)) × 0.1 ms")
    }
  }

  /// Three times as fast, at least, as the same steps in simple operations, forward and backward, one sequence of 1,024 tokens.
  @Test(arguments: NamedCell.all) func fasterThanSimpleOperations(_ named: NamedCell) throws {
    try withSteadyProcess {
      var random = TestRandom()
      let (width, cell) = (256, named.cell)
      let x = try random.tensor([1, 1024, cell.gates * width]).tracked()
      let recurrent = try random.uniform([cell.gates * width, width], -0.06, 0.06).tracked()
      let states = try cell.emptyStates(batch: 1, width: width)
      func seconds(_ run: () throws -> RecurrentResult) throws -> Double {
        let times = try (0..<3).map { _ in
          try ContinuousClock().measure { _ = try gradients(of: run().output.sum()) }.components
        }
        return times.map { Double($0.seconds) + Double($0.attoseconds) * 1e-18 }.sorted()[1]
      }
      let slow = try seconds { try recurrentReference(cell, projections: x, recurrent: recurrent, states: states) }
      let fused = try seconds { try recurrentScan(cell, projections: x, recurrent: recurrent, states: states) }
      print("\(named.name): \(slow / fused) times as fast as simple operations (\(fused * 1e3) ms)")
      #expect(slow >= 3 * fused)
    }
  }
}
