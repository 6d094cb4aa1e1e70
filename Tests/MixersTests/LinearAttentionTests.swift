import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

/// What normalisers and norms are for: outputs that are averages, and gradients that stay of one size.
@Suite struct LinearAttentionTests {
  private static let width = 8

  private func mixer(_ normalization: LinearAttention.Normalization, featureMap: String) throws -> LinearAttention {
    var random = RandomSource(seed: 4)
    var options = LinearAttention.Options(heads: 2)
    (options.normalization, options.featureMap) = (normalization, featureMap)
    return try LinearAttention(width: Self.width, options: options, random: &random)
  }

  /// The identity in place of values and of the way out; queries and keys times `scale`.
  private func showingValues(_ mixer: LinearAttention, scale: Float) throws -> LinearAttention {
    var mixer = mixer
    let identity = try Tensor(
      (0..<Self.width * Self.width).map { $0 % (Self.width + 1) == 0 ? Float(1) : 0 },
      shape: [Self.width, Self.width])
    let asking = try mixer.projections.input.weight.slice(0..<2 * Self.width, axis: 0) * scale
    mixer.projections.input.weight = try Tensor.concatenated([asking, identity], axis: 0)
    mixer.projections.output.weight = identity
    return mixer
  }

  /// Where all queries and keys are alike, an output is the mean of what was read so far, after 20,000 tokens too.
  @Test func outputsAreRunningMeans() throws {
    let mixer = try showingValues(mixer(.sum, featureMap: "elu_plus_one"), scale: 0)
    var random = TestRandom()
    let length = 20_000
    let x = try random.tensor([1, length, Self.width], mean: 0.5)
    var state = try mixer.initialState(batch: 1)
    let y = try mixer(Piece(x), state: &state).floats().map { Double($0) }
    var sums = [Double](repeating: 0, count: Self.width)
    let expected = try x.floats().enumerated().map { index, value in
      sums[index % Self.width] += Double(value)
      return sums[index % Self.width] / Double(index / Self.width + 1)
    }
    try expectClose(y, expected, Tolerance(ratio: 1e-5, floor: 1e-6, spread: 100), "running means")
  }

  /// Features that are not negative make weighted means: no output leaves the range of the values read so far.
  @Test(arguments: ["elu_plus_one", "relu"]) func outputsStayAmongTheValues(_ featureMap: String) throws {
    let mixer = try showingValues(mixer(.sum, featureMap: featureMap), scale: 1)
    var random = TestRandom("range \(featureMap)")
    let x = try random.tensor([1, 300, Self.width])
    var state = try mixer.initialState(batch: 1)
    let (values, outputs) = (try x.floats(), try mixer(Piece(x), state: &state).floats())
    for column in 0..<Self.width {
      var (low, high): (Float, Float) = (0, 0)  // what nothing that was asked for reads is zero
      for index in stride(from: column, to: values.count, by: Self.width) {
        (low, high) = (min(low, values[index]), max(high, values[index]))
        #expect((low - 1e-5...high + 1e-5).contains(outputs[index]), "element \(index)")
      }
    }
  }

  /// The size of the gradient of the projection of queries.
  private func gradient(_ mixer: LinearAttention, length: Int) throws -> (queries: Double, inputs: Double) {
    var random = TestRandom("gradient sizes \(length)")
    let x = try random.tensor([1, length, Self.width]).tracked()
    var tracked = mixer
    tracked.projections.input.weight = mixer.projections.input.weight.tracked()
    var state = try tracked.initialState(batch: 1)
    let y = try tracked(Piece(x), state: &state)
    let found = try gradients(of: [(y, random.tensor(y.shape))])
    func size(_ x: Tensor) throws -> Double {
      let values = try x.floats()
      return (values.reduce(0) { $0 + Double($1) * Double($1) } / Double(values.count)).squareRoot()
    }
    let weights = try #require(found[tracked.projections.input.weight])
    return (try size(weights.slice(0..<Self.width, axis: 0).contiguous()), try size(#require(found[x])))
  }

  /// Small features: sums are divided by next to nothing and their gradient explodes, a norm's does not (Qin et al. 2022).
  @Test func normsBoundGradientsOfSmallFeatures() throws {
    func growth(_ normalization: LinearAttention.Normalization) throws -> Double {
      let plain = try mixer(normalization, featureMap: "relu")
      return try gradient(showingValues(plain, scale: 1e-3), length: 64).queries
        / gradient(showingValues(plain, scale: 1), length: 64).queries
    }
    let (sums, norms) = (try growth(.sum), try growth(.norm))
    #expect(sums > 50 && norms < 2, "features of a thousandth: \(sums) times with sums, \(norms) with norms")
  }

  /// 64 times the tokens: gradients of inputs grow where nothing normalises, and hardly where something does.
  @Test func gradientsOfLongSequencesAreBounded() throws {
    func growth(_ normalization: LinearAttention.Normalization) throws -> Double {
      let mixer = try mixer(normalization, featureMap: "elu_plus_one")
      return try gradient(mixer, length: 4096).inputs / gradient(mixer, length: 64).inputs
    }
    let (none, sums, norms) = (try growth(.none), try growth(.sum), try growth(.norm))
    #expect(none > 5 && sums < 2 && norms < 2, "growth of gradients: none \(none), sums \(sums), norms \(norms)")
  }
}
