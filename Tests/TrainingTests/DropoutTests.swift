import FermataFiles
import FermataLayers
import FermataMixers
import FermataModels
import FermataTasks
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataTraining

/// Dropout obeys the cut law: its draws depend on absolute positions alone.
@Suite(.serialized) struct DropoutTests {
  private func pieces(_ cuts: [Int], length: Int) throws -> [TokenPiece] {
    let text = [UInt8](Fixture.text(length + 1)).map { Int32($0) }
    let edges = [0] + cuts + [length]
    return try zip(edges, edges.dropFirst()).map { start, end in
      let shape = [1, end - start]
      return TokenPiece(
        tokens: try Tensor(Array(text[start..<end]), shape: shape),
        targets: try Tensor(Array(text[start + 1..<end + 1]), shape: shape),
        layout: Layout(batch: 1, length: end - start))
    }
  }

  @Test func piecesHaveTheGradientOfTheWhole() throws {
    var model = try LanguageModel(Fixture.configuration(), seed: 11)
    let start = try model.initialState(batch: 1)
    let plain = try PiecewiseGradient.exact(model, pieces([], length: 192), state: start, scale: 1 / 192)
    model.dropout = try Dropout(rate: 0.2, seed: 5)
    let whole = try PiecewiseGradient.exact(model, pieces([], length: 192), state: start, scale: 1 / 192)
    #expect(abs(plain.loss - whole.loss) > 1e-3 * plain.loss, "dropout must show")
    // 24 pieces are run again group by group, from states saved and found again.
    for size in [96, 64, 8] {
      let cuts = Array(stride(from: size, to: 192, by: size))
      let parts = try PiecewiseGradient.exact(model, pieces(cuts, length: 192), state: start, scale: 1 / 192)
      #expect(abs(parts.loss - whole.loss) <= 1e-6 * whole.loss)
      #expect(Set(parts.gradients.keys) == Set(whole.gradients.keys))
      for (name, expected) in whole.gradients {
        let (x, y) = (try #require(parts.gradients[name]).floats(), try expected.floats())
        let error = zip(x, y).reduce(0.0) { $0 + pow(Double($1.0 - $1.1), 2) }.squareRoot()
        let norm = y.reduce(0.0) { $0 + pow(Double($1), 2) }.squareRoot()
        #expect(error <= 1e-5 * norm + 1e-12, "pieces of \(size): \(name) differs by \(error / norm)")
      }
    }
  }

  @Test func keptValuesKeepTheMean() throws {
    let ones = try Tensor.ones([3, 400, 50])
    for rate in [Float(0.1), 0.5, 0.9] {
      let values = try Dropout(rate: rate, seed: 3)(ones, stream: 1, position: 0).floats()
      let kept = 1 / (1 - rate)
      #expect(values.allSatisfy { $0 == 0 || abs($0 - kept) < 1e-5 * kept })
      let mean = Double(values.reduce(0, +)) / Double(values.count)
      // Five standard deviations of the mean.
      let spread = (Double(rate) / Double(1 - rate) / Double(values.count)).squareRoot()
      #expect(abs(mean - 1) < 5 * spread, "rate \(rate): mean \(mean)")
    }
    #expect(try Dropout(rate: 0, seed: 3)(ones, stream: 1, position: 0).floats().allSatisfy { $0 == 1 })
  }

  @Test func drawsDependOnThePositionAlone() throws {
    let ones = try Tensor.ones([2, 30, 7])
    func draws(_ count: Int, from position: Int, seed: UInt64 = 9, stream: Int = 2) throws -> [[Float]] {
      let values = try Dropout(rate: 0.5, seed: seed)(Tensor.ones([2, count, 7]), stream: stream, position: position)
        .floats()
      return (0..<2).map { Array(values[$0 * count * 7..<($0 + 1) * count * 7]) }
    }
    let whole = try draws(30, from: 4)
    for cut in [1, 13, 29] {
      let (first, second) = (try draws(cut, from: 4), try draws(30 - cut, from: 4 + cut))
      #expect((0..<2).map { first[$0] + second[$0] } == whole, "cut at \(cut)")
    }
    #expect(whole[0] != whole[1])
    #expect(try draws(30, from: 5) != whole)
    #expect(try draws(30, from: 4, seed: 10) != whole)
    #expect(try draws(30, from: 4, stream: 3) != whole)
    // Past 2³¹ and 2³² too.
    #expect(try draws(30, from: (1 << 32) + 4) != whole)
    #expect(try ones.floats().allSatisfy { $0 == 1 })
  }

  @Test func aRateOutOfRangeIsRefused() {
    for rate in [Float(-0.1), 1, 2, .nan, .infinity] {
      #expect(throws: TensorError.self) { try Dropout(rate: rate, seed: 0) }
      #expect(throws: TrainingError.self) { try Fixture.options { $0.dropout = Double(rate) }.validate() }
    }
  }
}
