import FermataFiles
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataMixers

/// How mixers' cost depends on length, one layer of width 256 each. Measurements: they print, and run with
/// FERMATA_LONG_TESTS=1, alone on the machine.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["FERMATA_LONG_TESTS"] == "1"), .serialized)
struct LengthSpeedTests {
  private static let settings = [
    #""type": "linear_attention", "num_heads": 4"#,
    #""type": "linear_attention", "num_heads": 4, "normalization": "norm""#,
    #""type": "retnet", "num_heads": 4"#,
    #""type": "lightning_attention", "num_heads": 4"#,
    #""type": "gated_linear_attention", "num_heads": 4"#,
    #""type": "gated_linear_attention", "num_heads": 4, "gate": "scalar""#,
    #""type": "based", "num_heads": 4"#,
    #""type": "delta_rule", "num_heads": 4"#,
    #""type": "gated_delta_rule", "num_heads": 4"#,
    #""type": "gated_delta_rule", "num_heads": 4, "conv_size": 4"#,
    #""type": "mixture_of_memories", "num_heads": 4"#,
    #""type": "aaren", "num_heads": 4"#,
    #""type": "s4""#,
    #""type": "s4d""#,
    #""type": "s5", "state_size": 256"#,
    #""type": "h3""#,
    #""type": "h3", "head_dim": 4, "state_size": 16"#,
    #""type": "mamba""#,
    #""type": "mamba2""#,
    #""type": "slstm", "num_heads": 4"#,
  ]

  /// One dense matrix for the whole width: a step of one row multiplies it with a vector, where 16 rows read it once.
  private static let dense = [#""type": "lstm""#, #""type": "gru""#]

  /// Forwards and backwards, a token of 1 × 65,536 costs at most 1.15 times one of 16 × 4,096: the median of three pairs, as
  /// neighbouring runs share the machine's mood; dense recurrences at most 2.2 times. A streaming step costs the same far into a sequence, and the state keeps its size.
  @Test(arguments: settings + dense) func lengthDoesNotMatter(_ json: String) throws {
    try withSteadyProcess {
      let mixer = try make(json)
      _ = try train(mixer, 16, 4096)
      let pairs = try (0..<3).map { _ in (short: try train(mixer, 16, 4096), long: try train(mixer, 1, 65_536)) }
      let ratio = pairs.map { $0.long / $0.short }.sorted()[1]
      let (early, late, bytes) = try stream(mixer)
      let seconds = pairs.map(\.short).sorted()[1]
      print(
        String(
          format: "LENGTH | `{%@}` | %.0f tokens/s | %.2f | %.0f, %.0f µs | %d B |", json, 65_536 / seconds, ratio,
          early * 1e6, late * 1e6, bytes))
      #expect(ratio <= (Self.dense.contains(json) ? 2.2 : 1.15))
      #expect(late <= 1.3 * early)
    }
  }

  private func make(_ json: String) throws -> any Mixer {
    var random = RandomSource(seed: 1)
    return try MixerRegistry.standard.make(
      width: 256, configuration: StrictJSON.parse(Array("{\(json)}".utf8), place: "options"), random: &random)
  }

  /// Seconds of a forward and backward over batch × length tokens in bf16.
  private func train(_ mixer: some Mixer, _ batch: Int, _ length: Int) throws -> Double {
    var random = RandomSource(seed: 2)
    let x = try random.normal([batch, length, 256]).cast(to: .bfloat16)
    let seed = try random.normal([batch, length, 256]).cast(to: .bfloat16)
    let (tracked, leaf) = (try mixer.tracked(), x.tracked())
    let begin = ContinuousClock.now
    var state = try tracked.initialState(batch: batch)
    let output = try tracked(Piece(leaf), state: &state)
    let found = try gradients(of: [(output, seed)])
    _ = try #require(found[leaf])
    return seconds(since: begin)
  }

  /// Seconds of a step at the start and after 65,536 tokens, and the state's bytes.
  private func stream(_ mixer: some Mixer) throws -> (early: Double, late: Double, bytes: Int) {
    var random = RandomSource(seed: 3)
    let token = try Piece(random.normal([1, 1, 256]))
    var state = try mixer.initialState(batch: 1)
    func steps() throws -> Double {
      var fastest = Double.infinity
      for _ in 0..<200 {
        let begin = ContinuousClock.now
        _ = try mixer(token, state: &state)
        fastest = min(fastest, seconds(since: begin))
      }
      return fastest
    }
    let early = try steps()
    let bytes = state.byteCount
    _ = try mixer(Piece(random.normal([1, 65_536, 256])), state: &state)
    let late = try steps()
    #expect(state.byteCount == bytes)
    #expect(bytes == mixer.stateBytes(batch: 1, length: 1 << 20, dtype: .float32))
    return (early, late, state.byteCount)
  }

  private func seconds(since begin: ContinuousClock.Instant) -> Double {
    let elapsed = (ContinuousClock.now - begin).components
    return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
  }
}
