import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataLayers

/// Layers that published models are made of: gradients against differences, and values that follow from the equation.
@Suite struct PublishedLayersTests {
  @Test func activationsHaveTheirGradients() throws {
    for activation in Activation.all {
      var random = TestRandom(activation.name)
      let any = try random.tensor([2, 9])
      // Away from 0, where relu has a corner.
      let x = activation.name.hasPrefix("relu") ? try any.absolute() + 0.2 : any
      try gradientCheck("activation \(activation.name)", [x], step: 0.01) { [try activation($0[0])] }
    }
    let x = try Tensor([-3, -0.5, 0, 0.5, 3] as [Float], shape: [5])
    let known: [String: [Float]] = [
      "gelu": [-0.00404951, -0.15426877, 0, 0.34573123, 2.99595],
      "gelu_new": [-0.00363752, -0.15428599, 0, 0.345714, 2.9963627],
      "quick_gelu": [-0.0180718, -0.149615, 0, 0.350385, 2.981928], "relu2": [0, 0, 0, 0.25, 9],
      "silu": [-0.14227763, -0.18877034, 0, 0.31122968, 2.8577223],
    ]
    for (name, values) in known {
      let activation = try #require(Activation(named: name))
      let y = try activation(x).floats()
      for (a, b) in zip(y, values) { #expect(abs(a - b) < 1e-5, "\(name): \(y)") }
    }
    #expect(Activation(named: "gleu") == nil)
  }

  @Test func layersHaveTheirGradients() throws {
    var random = TestRandom()
    var source = RandomSource(seed: 3)
    let x = try random.tensor([2, 3, 6])
    let gelu = try #require(Activation(named: "gelu_new"))
    let gated = try GatedFeedForward(6, hidden: 5, activation: gelu, bias: true, random: &source)
    try gradientCheck("gated", [x] + gated.parameters().map(\.value), step: 0.01) { inputs in
      var (layer, next) = (gated, 0)
      try layer.updateParameters {
        next += 1
        $1 = inputs[next]
      }
      return [try layer(inputs[0])]
    }
    var norm = try OffsetRMSNorm(6, epsilon: 1e-5)
    norm.weight = try random.tensor([6])
    try expectClose(
      norm(x), RMSNorm.reference(x, weight: norm.weight + 1, epsilon: 1e-5), .fused(.float32), "offset norm")
    let turned = try TransposedLinear(6, 4, random: &source)
    try expectClose(turned(x), matmul(x, turned.weight), .product(.float32), "transposed linear")
  }

  @Test func positionsBeyondTheTableThrow() throws {
    var source = RandomSource(seed: 1)
    let positions = try LearnedPositions(5, 3, offset: 2, random: &source)
    #expect(positions.count == 5)
    let rows = try positions(nil, from: 1, length: 4).floats()
    #expect(try rows == positions.weight.slice(3..<7, axis: 0).floats())
    #expect(throws: TensorError.self) { try positions(nil, from: 2, length: 4) }
    #expect(throws: TensorError.self) { try positions(nil, from: Int.max - 8, length: 4) }
    #expect(throws: TensorError.self) {
      try positions(Tensor([-1] as [Int32], shape: [1, 1]), from: 0, length: 1)
    }
  }
}
