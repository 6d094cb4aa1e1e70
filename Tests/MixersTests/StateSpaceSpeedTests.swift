import FermataFiles
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataMixers

/// How the state spaces' cost depends on length. Prints a table: run it alone on the machine.
@Suite struct StateSpaceSpeedTests {
  private static let mixers = [
    ("s4", #"{"type": "s4"}"#), ("s4d", #"{"type": "s4d"}"#), ("s5", #"{"type": "s5", "state_size": 256}"#),
    ("h3", #"{"type": "h3"}"#), ("h3, head_dim 4", #"{"type": "h3", "head_dim": 4, "state_size": 16}"#),
  ]
  private static let isLong = ProcessInfo.processInfo.environment["FERMATA_LONG_TESTS"] == "1"

  /// Training one layer of width 256: a token of 1 × 65,536 costs at most 1.15 times one of 16 × 4,096. A streaming step costs
  /// the same far into a sequence, and the state keeps its size.
  @Test(.enabled("takes minutes: FERMATA_LONG_TESTS=1") { isLong }) func lengthDoesNotMatter() throws {
    print(
      "| mixer | 16 × 4,096 f32, tokens/s | 1 × 65,536 f32, tokens/s | ratio | bf16, tokens/s | step, µs | state, bytes |"
    )
    print("|---|---|---|---|---|---|---|")
    for (name, json) in Self.mixers {
      let mixer = try make(json)
      var ratios: [Double] = []
      var best = (short: Double.infinity, long: Double.infinity)
      // Neighbouring runs share the machine's mood, so the ratio is the best of a few pairs'.
      for _ in 0..<3 {
        let (short, long) = (try train(mixer, 16, 4096, .float32), try train(mixer, 1, 65_536, .float32))
        ratios.append(long / short)
        best = (min(best.short, short), min(best.long, long))
      }
      let half = try train(mixer, 16, 4096, .bfloat16)
      let (early, late, bytes) = try stream(mixer)
      let ratio = ratios.min() ?? .infinity
      let numbers = [best.short, best.long].map { String(format: "%.0f", 65_536 / $0) }
      print(
        "| \(name) | \(numbers[0]) | \(numbers[1]) | \(String(format: "%.2f", ratio)) | "
          + String(format: "%.0f | %.0f, then %.0f | %d |", 65_536 / half, early * 1e6, late * 1e6, bytes))
      #expect(ratio <= 1.15, "\(name)")
      #expect(late <= 1.3 * early, "\(name)")
    }
  }

  private func make(_ json: String) throws -> any Mixer {
    var random = RandomSource(seed: 1)
    return try MixerRegistry.standard.make(
      width: 256, configuration: StrictJSON.parse(Array(json.utf8), place: "options"), random: &random)
  }

  /// Seconds of a forward and backward over batch × length tokens.
  private func train(_ mixer: some Mixer, _ batch: Int, _ length: Int, _ dtype: DType) throws -> Double {
    var random = RandomSource(seed: 2)
    let x = try random.normal([batch, length, 256]).cast(to: dtype)
    let seed = try random.normal([batch, length, 256]).cast(to: dtype)
    let begin = ContinuousClock.now
    let (tracked, leaf) = (try mixer.tracked(), x.tracked())
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
    _ = try mixer(Piece(random.normal([1, 65_536, 256])), state: &state)
    let late = try steps()
    #expect(state.byteCount == mixer.stateBytes(batch: 1, length: 1, dtype: .float32))
    return (early, late, state.byteCount)
  }

  private func seconds(since begin: ContinuousClock.Instant) -> Double {
    let elapsed = (ContinuousClock.now - begin).components
    return Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18
  }
}
