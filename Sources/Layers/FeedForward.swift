import CFermataKernels
import FermataTensors

/// SwiGLU feed-forward (Shazeer 2020): y = down(silu(gate(x)) · up(x)). Gate and up are one product:
/// rows 0..<hidden of `gate_up_proj` are the gate's, the rest up's.
public struct FeedForward: Module {
  public var gateUp: Linear
  public var down: Linear

  public init(gateUp: Linear, down: Linear) {
    self.gateUp = gateUp
    self.down = down
  }

  /// `outputGain` scales the initial weights of the way back into the residual stream.
  public init(_ width: Int, hidden: Int, outputGain: Float = 1, random: inout RandomSource) throws {
    gateUp = try Linear(width, 2 * hidden, random: &random)
    down = try Linear(hidden, width, gain: outputGain, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("gate_up_proj", &gateUp)
    try visitor.module("down_proj", &down)
  }

  public func callAsFunction(_ x: Tensor) throws -> Tensor { try down(swiGLU(gateUp(x))) }
}

/// silu(g) · u for x (…, 2 width) holding g, then u.
public func swiGLU(_ x: Tensor) throws -> Tensor {
  guard let double = x.shape.last, double % 2 == 0, double > 0, x.dtype.isFloatingPoint else {
    throw TensorError("swiGLU", expected: "a floating tensor (…, 2 width)", got: "\(x)")
  }
  let width = double / 2
  let rows = x.count / double
  let source = try x.detached.contiguous()
  let result = try Tensor(uninitialized: Array(x.shape.dropLast()) + [width], x.dtype)
  fm_swiglu(x.kernelType, source.pointer, result.pointer, Int64(rows), Int64(width))
  Work.add(flops: 4 * result.count, bytes: x.byteCount + result.byteCount)
  guard x.isTracked else { return withExtendedLifetime(source) { result } }
  return Tensor.record("swiGLU", [x], output: result) { gradient in
    let dy = try gradient.contiguous()
    let dx = try Tensor(uninitialized: source.shape, source.dtype)
    fm_swiglu_backward(source.kernelType, source.pointer, dy.pointer, dx.pointer, Int64(rows), Int64(width))
    Work.add(flops: 8 * dy.count, bytes: 2 * source.byteCount + dy.byteCount)
    withExtendedLifetime((source, dy)) {}
    return [dx]
  }
}

/// The same in simple operations: the oracle of the fused form.
package func swiGLUReference(_ x: Tensor) throws -> Tensor {
  let half = (x.shape.last ?? 0) / 2
  let parts = try x.cast(to: .float32).split(sizes: [half, half], axis: -1)
  return try (parts[0].silu() * parts[1]).cast(to: x.dtype)
}
