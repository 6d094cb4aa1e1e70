import FermataFiles
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataMixers

/// Measurements, not laws: they print and run with FERMATA_LONG_TESTS=1. One layer of width 256 with 4 heads, in bf16.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["FERMATA_LONG_TESTS"] == "1"), .serialized)
struct MatrixMixerSpeedTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var json: String
    /// Floating-point operations per token of the recurrent form, forwards.
    var recurrent: Double
    /// Weights that a token does not meet.
    var idle = 0
    var testDescription: String { json }

    static let width = 256
    private static let (keys, heads, state) = (64.0, 4.0, 64.0 * 256)
    private static let features = Double(taylorWidth(16))

    static let all = [
      Case(json: #""type": "linear_attention""#, recurrent: 4 * keys * (256 + heads)),
      Case(json: #""type": "linear_attention", "normalization": "norm""#, recurrent: 4 * state),
      Case(json: #""type": "retnet""#, recurrent: 10 * state),
      Case(json: #""type": "lightning_attention""#, recurrent: 5 * state),
      Case(json: #""type": "gated_linear_attention""#, recurrent: 5 * state / 2),
      Case(json: #""type": "gated_linear_attention", "gate": "scalar""#, recurrent: 5 * state / 2),
      Case(json: #""type": "based""#, recurrent: 4 * features * (256 + heads) + 4 * 64 * 256),
      Case(json: #""type": "delta_rule""#, recurrent: 6 * state),
      Case(json: #""type": "gated_delta_rule""#, recurrent: 7 * state),
      Case(json: #""type": "gated_delta_rule", "conv_size": 4"#, recurrent: 7 * state + 8 * 768),
      Case(json: #""type": "mixture_of_memories""#, recurrent: 3 * 7 * state, idle: 2 * 256 * (2 * 256 + 2 * 4)),
    ]

    func mixer() throws -> any Mixer {
      var random = RandomSource(seed: 1)
      let settings = try StrictJSON.parse(Array("{\(json), \"num_heads\": 4}".utf8), place: "case")
      return try MixerRegistry.standard.make(width: Self.width, configuration: settings, random: &random)
    }

    /// Of a token, forwards and backwards, which is three times forwards.
    func flops(_ mixer: any Mixer) throws -> Double {
      let weights = try mixer.parameters().reduce(0) { $0 + ($1.value.rank == 2 ? $1.value.count : 0) } - idle
      return 3 * (2 * Double(weights) + recurrent)
    }

    /// Best seconds of forward and backward.
    func seconds(batch: Int, length: Int, times: Int) throws -> Double {
      var random = RandomSource(seed: 2)
      let mixer = try mixer().tracked()
      let x = try random.normal([batch, length, Self.width]).cast(to: .bfloat16).tracked()
      let seed = try random.normal([batch, length, Self.width]).cast(to: .bfloat16)
      return try best(times) {
        var state = try mixer.initialState(batch: batch)
        _ = try gradients(of: [(mixer(Piece(x), state: &state), seed)])
      }
    }
  }

  private static func show(_ number: Double, _ digits: Int = 2) -> String { String(format: "%.\(digits)f", number) }

  /// 4 × 1,024 tokens, against the rate of an 8192 × 256 × 768 product in f32 in the same run.
  @Test(arguments: Case.all) func layer(_ one: Case) throws {
    try withSteadyProcess {
      var random = RandomSource(seed: 3)
      let (a, b) = (try random.normal([8192, 256]), try random.normal([256, 768]))
      let rate = try 2 * 8192 * 256 * 768 / best(15) { _ = try matmul(a, b) } * 1e-9
      let seconds = try one.seconds(batch: 4, length: 1024, times: 9)
      let speed = try one.flops(one.mixer()) * 4096 / seconds * 1e-9
      print(
        "LAYER \(one.json): \(Self.show(seconds / 4096 * 1e6)) µs a token, \(Self.show(speed, 0)) GFLOP/s, "
          + "\(Self.show(100 * speed / rate, 0))% of f32's \(Self.show(rate, 0))")
      // What an engineer is promised of a machine without tile instructions.
      #expect(speed >= 0.4 * rate)
    }
  }
}

/// Seconds of the fastest of some runs.
private func best(_ times: Int, _ body: () throws -> Void) rethrows -> Double {
  var best = Double.infinity
  for _ in 0..<times {
    let time = try ContinuousClock().measure(body).components
    best = min(best, Double(time.seconds) + Double(time.attoseconds) * 1e-18)
  }
  return best
}
