import FermataTensors
import Foundation
import Testing

@testable import FermataInference

@Suite struct SamplerTests {
  private func options(_ change: (inout SamplingOptions) -> Void) -> SamplingOptions {
    var options = SamplingOptions()
    (options.temperature, options.topP) = (1, 1)
    change(&options)
    return options
  }

  private func counts(_ options: SamplingOptions, _ logits: [Float], draws: Int = 20_000) throws -> [Int] {
    var sampler = try Sampler(options)
    var counts = [Int](repeating: 0, count: logits.count)
    for _ in 0..<draws { counts[try sampler.next(logits)] += 1 }
    return counts
  }

  @Test func drawsByProbability() throws {
    let probabilities: [Float] = [0.5, 0.3, 0.15, 0.05]
    let counts = try counts(options { _ in }, probabilities.map { logf($0) })
    for (count, probability) in zip(counts, probabilities) { #expect(abs(Float(count) / 20_000 - probability) < 0.02) }
  }

  @Test func cutsTails() throws {
    let logits: [Float] = [0.5, 0.3, 0.15, 0.05].map { logf($0) }
    #expect(try counts(options { $0.topK = 2 }, logits, draws: 2000).suffix(2).allSatisfy { $0 == 0 })
    #expect(try counts(options { $0.topP = 0.75 }, logits, draws: 2000).suffix(2).allSatisfy { $0 == 0 })
    #expect(try counts(options { $0.topP = 0.9 }, logits, draws: 2000)[3] == 0)
    #expect(try counts(options { $0.minP = 0.25 }, logits, draws: 2000)[3] == 0)
    #expect(try counts(options { $0.temperature = 0 }, logits, draws: 50)[0] == 50)
  }

  @Test func seedDecidesAndCopiesDrawTheSame() throws {
    let logits = (0..<50).map { Float($0 % 7) }
    func draw(_ seed: UInt64) throws -> [Int] {
      var sampler = try Sampler(options { $0.seed = seed })
      return try (0..<40).map { _ in try sampler.next(logits) }
    }
    #expect(try draw(1) == draw(1))
    #expect(try draw(1) != draw(2))
    var first = try Sampler(options { _ in })
    _ = try first.next(logits)
    var second = first
    #expect(try first.next(logits) == second.next(logits))
  }

  @Test func repetitionIsPenalised() throws {
    var sampler = try Sampler(
      options {
        $0.temperature = 0; $0.repetitionPenalty = 2
      })
    #expect(try sampler.next([3, 2, -1]) == 0)
    #expect(try sampler.next([3, 2, -1]) == 1)
    #expect(try sampler.next([3, 2, -1]) == 0)
  }

  @Test func impossibleOptionsAndLogitsThrow() throws {
    for change in [
      { $0.temperature = -1 }, { $0.topP = 0 }, { $0.minP = 1 }, { $0.topK = -1 }, { $0.repetitionPenalty = 0 },
    ] as [(inout SamplingOptions) -> Void] {
      #expect(throws: TensorError.self) { try Sampler(options(change)) }
    }
    var sampler = try Sampler(options { _ in })
    #expect(throws: TensorError.self) { try sampler.next([.nan, .nan]) }
    #expect(throws: TensorError.self) { try sampler.next([.infinity, 0]) }
    #expect(throws: TensorError.self) { try sampler.next([]) }
  }
}
