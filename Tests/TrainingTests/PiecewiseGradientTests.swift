import FermataFiles
import FermataMixers
import FermataModels
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataTraining

/// Gradients over pieces equal those of the whole sequence, in bounded memory.
@Suite(.serialized) struct PiecewiseGradientTests {
  /// Relative RMS allowed per tensor, f32, for pieces of one length.
  static let tolerance = 1e-5
  /// For ragged cuts down to single tokens, which take other paths through the kernels: the cut law's own bound.
  static let raggedTolerance = 1e-4

  private func pieces(_ cuts: [Int], length: Int, batch: Int = 1, seed: UInt64 = 5) throws -> [TokenPiece] {
    let text = [UInt8](Fixture.text(batch * (length + 1), seed: seed)).map { Int32($0) }
    let edges = [0] + cuts + [length]
    return try zip(edges, edges.dropFirst()).map { start, end in
      func rows(_ shift: Int) throws -> Tensor {
        var values: [Int32] = []
        for row in 0..<batch {
          let base = row * (length + 1) + shift
          values += text[base + start..<base + end]
        }
        return try Tensor(values, shape: [batch, end - start])
      }
      return TokenPiece(tokens: try rows(0), targets: try rows(1), layout: Layout(batch: batch, length: end - start))
    }
  }

  private func expectSame(_ a: LossGradient, _ b: LossGradient, tolerance: Double, _ label: String) throws {
    #expect(abs(a.loss - b.loss) <= 1e-6 * abs(b.loss), "\(label): losses \(a.loss) and \(b.loss)")
    #expect(Set(a.gradients.keys) == Set(b.gradients.keys))
    for (name, expected) in b.gradients {
      let (x, y) = (try #require(a.gradients[name]).floats(), try expected.floats())
      let error = zip(x, y).reduce(0.0) { $0 + pow(Double($1.0 - $1.1), 2) }.squareRoot()
      let norm = y.reduce(0.0) { $0 + pow(Double($1), 2) }.squareRoot()
      #expect(error <= tolerance * norm + 1e-12, "\(label): \(name) differs by \(error / norm)")
    }
    for (layer, state) in b.state.layers.enumerated() {
      #expect(a.state.layers[layer].position == state.position)
      #expect(a.state.layers[layer].names == state.names)
    }
  }

  static let stacks: [[JSONValue]] = [
    [Fixture.linear, Fixture.linear, Fixture.windowed], [Fixture.scalar], [Fixture.recurrent],
    [["type": "softmax_attention", "num_attention_heads": 2, "sliding_window": 9, "sinks": 2]],
  ]

  @Test(arguments: stacks) func equalTheWholeSequence(_ mixers: [JSONValue]) throws {
    let model = try LanguageModel(Fixture.configuration(mixers: mixers), seed: 11)
    let scale = Float(1) / 200
    let start = try model.initialState(batch: 1)
    let whole = try PiecewiseGradient.exact(model, pieces([], length: 200), state: start, scale: scale)
    let cuts = [[100], [1, 2, 65, 130, 199], Array(stride(from: 8, to: 200, by: 8))]
    for (index, cut) in cuts.enumerated() {
      let tolerance = index == 1 ? Self.raggedTolerance : Self.tolerance
      let parts = try PiecewiseGradient.exact(model, pieces(cut, length: 200), state: start, scale: scale)
      try expectSame(parts, whole, tolerance: tolerance, "\(cut.count + 1) pieces")
    }
    // Truncation is another gradient: if it were not, this test could not tell.
    let truncated = try PiecewiseGradient.truncated(model, pieces([100], length: 200)[0], state: start, scale: scale)
    #expect(truncated.loss < whole.loss)
  }

  @Test func memoryDoesNotGrowWithTheContext() throws {
    try withSteadyProcess {
      let model = try LanguageModel(
        Fixture.configuration(width: 64, mixers: [Fixture.linear, Fixture.linear, Fixture.windowed]), seed: 1)
      func peak(_ length: Int) throws -> Int {
        let parts = try pieces(Array(stride(from: 256, to: length, by: 256)), length: length)
        return try Memory.measure {
          try PiecewiseGradient.exact(model, parts, state: model.initialState(batch: 1), scale: 1)
        }.peak
      }
      let (short, long) = (try peak(2_048), try peak(16_384))
      #expect(Double(long) <= 1.5 * Double(short), "peak \(long) bytes at 16,384 tokens, \(short) at 2,048")
    }
  }

  /// The issue's own measure: 65,536 tokens against 8,192.
  @Test(.enabled(if: runsLongTests)) func longContext() throws {
    try withSteadyProcess {
      let configuration = try ModelConfiguration(
        width: 128, layers: 3,
        mixers: [
          ["type": "gated_linear_attention", "num_heads": 2], ["type": "gated_linear_attention", "num_heads": 2],
          ["type": "softmax_attention", "num_attention_heads": 2, "sliding_window": 256],
        ])
      let model = try LanguageModel(configuration, seed: 1)
      func run(_ length: Int, piece: Int) throws -> (LossGradient, Int) {
        let parts = try pieces(Array(stride(from: piece, to: length, by: piece)), length: length)
        let measured = try Memory.measure {
          try PiecewiseGradient.exact(model, parts, state: model.initialState(batch: 1), scale: 1 / Float(length))
        }
        return (measured.result, measured.peak)
      }
      let (pieced, short) = try run(8_192, piece: 1_024)
      let (whole, _) = try run(8_192, piece: 8_192)
      try expectSame(pieced, whole, tolerance: Self.tolerance, "8,192 tokens")
      let (long, peak) = try run(65_536, piece: 1_024)
      print(
        "exact piecewise gradients: peak \(short) bytes at 8,192 tokens, \(peak) at 65,536 (\(Double(peak) / Double(short)))"
      )
      #expect(Double(peak) <= 1.5 * Double(short))
      let (wholeLong, _) = try run(65_536, piece: 65_536)
      try expectSame(long, wholeLong, tolerance: Self.tolerance, "65,536 tokens")
    }
  }
}
