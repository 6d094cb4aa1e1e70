import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

/// Outputs of a function and the gradients of its inputs, from fixed random seeds at every output.
func outputsAndGradients(_ inputs: [Tensor], _ body: ([Tensor]) throws -> [Tensor]) throws -> (
  outputs: [Tensor], gradients: [Tensor?]
) {
  let leaves = inputs.map { $0.tracked() }
  let outputs = try body(leaves)
  var random = TestRandom("seeds")
  let found = try gradients(of: outputs.map { ($0, try random.tensor($0.shape).cast(to: $0.dtype)) })
  return (outputs.map(\.detached), leaves.map { found[$0] })
}

/// Throws unless a fused operation and its reference agree in outputs and in gradients of every input.
func expectSame(
  _ label: String, _ inputs: [Tensor], output: Tolerance, gradient: Tolerance, fused: ([Tensor]) throws -> [Tensor],
  reference: ([Tensor]) throws -> [Tensor]
) throws {
  let (a, b) = (try outputsAndGradients(inputs, fused), try outputsAndGradients(inputs, reference))
  for (index, (x, y)) in zip(a.outputs, b.outputs).enumerated() {
    try expectClose(x, y, output, "\(label), output \(index)")
  }
  for (index, (x, y)) in zip(a.gradients, b.gradients).enumerated() {
    // An input that cannot matter may have no gradient or zeros.
    let zeros = try Tensor.zeros(inputs[index].shape, inputs[index].dtype)
    try expectClose(x ?? zeros, y ?? zeros, gradient, "\(label), gradient of input \(index)")
  }
}

@Suite struct KernelRotaryTests {
  @Test(arguments: [DType.float32, .bfloat16]) func matchesSimpleOperations(_ dtype: DType) throws {
    try onEveryPath { path in
      var random = TestRandom("rotary \(dtype)")
      for (batch, length, heads, width) in [(1, 1, 1, 2), (2, 3, 2, 8), (1, 65, 3, 64), (2, 63, 1, 100), (1, 5, 2, 66)]
      {
        let x = try random.tensor([batch, length, heads, width], dtype)
        for shared in [true, false] {
          let positions = try random.integers([shared ? 1 : batch, length], 0...10_000)
          let (cosine, sine) = try RotaryPositions(width: width).angles(positions)
          try expectSame(
            "rotary \(dtype) \(x.shape)", [x], output: .fused(dtype), gradient: .fusedGradient(dtype),
            fused: { [try rotary($0[0], cosine: cosine, sine: sine, width: width, interleaved: false)] },
            reference: { [try rotaryReference($0[0], cosine: cosine, sine: sine)] })
        }
      }
    }
  }

  /// Results larger than the caches are stored past them: the same bits as when they are small.
  @Test func largeResultsAreTheSame() throws {
    var random = TestRandom("large rotary")
    let (length, copies) = (64, 512)
    let x = try random.tensor([1, length, 8, 64])
    let (cosine, sine) = try RotaryPositions(width: 64).angles(Tensor.range(length).reshaped([1, length]))
    let large = try x.broadcast(to: [copies, length, 8, 64]).contiguous()
    try onEveryPath { path in
      let small = try rotary(x, cosine: cosine, sine: sine, width: 64, interleaved: false)
      let results = try rotary(large, cosine: cosine, sine: sine, width: 64, interleaved: false)
      for copy in [0, copies - 1] {
        try expectSameBits(results.slice(copy..<copy + 1, axis: 0), small, "copy \(copy) on \(path)")
      }
    }
  }

  /// Interleaved pairs are the half-split ones with features in another order; a part of the width may turn alone.
  @Test func pairsAndPartialWidths() throws {
    var random = TestRandom()
    let (length, width) = (7, 10)
    let x = try random.tensor([2, length, 3, width])
    let positions = try Tensor.range(length, from: 100).reshaped([1, length])
    let (cosine, sine) = try RotaryPositions(width: width).angles(positions)
    func permuted(_ x: Tensor, _ order: [Int]) throws -> Tensor {
      try Tensor.concatenated(order.map { try x.slice($0..<$0 + 1, axis: 3) }, axis: 3)
    }
    let toHalves = (0..<width).map { $0 < 5 ? 2 * $0 : 2 * ($0 - 5) + 1 }
    let back = (0..<width).map { $0 % 2 == 0 ? $0 / 2 : 5 + $0 / 2 }
    try expectSame(
      "interleaved", [x], output: .fused(.float32), gradient: .fusedGradient(.float32),
      fused: { [try rotary($0[0], cosine: cosine, sine: sine, width: width, interleaved: true)] },
      reference: { [try permuted(rotaryReference(permuted($0[0], toHalves), cosine: cosine, sine: sine), back)] })
    let (c, s) = try RotaryPositions(width: 6).angles(positions)
    try expectSame(
      "six of ten", [x], output: .fused(.float32), gradient: .fusedGradient(.float32),
      fused: { [try rotary($0[0], cosine: c, sine: s, width: 6, interleaved: false)] },
      reference: { inputs in
        let parts = try inputs[0].split(sizes: [6, 4], axis: 3)
        return [try Tensor.concatenated([rotaryReference(parts[0], cosine: c, sine: s), parts[1]], axis: 3)]
      })
  }

  @Test func viewsAreRead() throws {
    var random = TestRandom()
    let all = try random.tensor([2, 6, 3, 24])
    let x = try all.slice(8..<16, axis: 3)
    let (cosine, sine) = try RotaryPositions(width: 8).angles(random.integers([2, 9], 0...500))
    let (c, s) = (try cosine.slice(2..<8, axis: 1), try sine.slice(2..<8, axis: 1))
    try expectSame(
      "views", [x], output: .fused(.float32), gradient: .fusedGradient(.float32),
      fused: { [try rotary($0[0], cosine: c, sine: s, width: 8, interleaved: false)] },
      reference: { [try rotaryReference($0[0], cosine: c, sine: s)] })
    let turned = try x.transposed(1, 2).contiguous().transposed(1, 2)
    try expectClose(
      rotary(turned, cosine: c, sine: s, width: 8, interleaved: false), rotaryReference(x, cosine: c, sine: s),
      .fused(.float32))
  }

  @Test func wrongShapesThrow() throws {
    let x = try Tensor.zeros([1, 4, 2, 8])
    let (c, s) = try RotaryPositions(width: 8).angles(Tensor.range(4).reshaped([1, 4]))
    let wrong: [() throws -> Tensor] = [
      { try rotary(x, cosine: c, sine: s, width: 10, interleaved: false) },
      { try rotary(x, cosine: c, sine: s, width: 7, interleaved: false) },
      { try rotary(x.select(0, axis: 0), cosine: c, sine: s, width: 8, interleaved: false) },
      { try rotary(x.slice(0..<3, axis: 1), cosine: c, sine: s, width: 8, interleaved: false) },
      { try rotary(x, cosine: c.cast(to: .bfloat16), sine: s, width: 8, interleaved: false) },
      { try rotary(x, cosine: c, sine: s.slice(0..<2, axis: 1), width: 8, interleaved: false) },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
    #expect(throws: TensorError.self) { try RotaryPositions(width: 3) }
    #expect(throws: TensorError.self) { try RotaryPositions(width: 4, base: 1) }
  }
}
