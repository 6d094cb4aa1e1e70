import CFermataKernels
import FermataTensors

/// Root mean square norm of gated values over groups of features, with a skip: how Mamba-2 reads out (Dao & Gu 2024; the norm
/// by Zhang & Sennrich 2019):
///
///     u = x + D v,   s = u · silu(gate),   y = s / sqrt(mean over the feature's group of s² + ε) · w
///
/// for x, v and gate (batch, length, width), in groups of width / groups features that lie together; D is one number a head of
/// width / heads features.
public struct GatedGroupNorm: Module {
  public var weight: Tensor
  public var groups: Int
  public var epsilon: Float

  public init(weight: Tensor, groups: Int = 1, epsilon: Float = 1e-5) {
    (self.weight, self.groups, self.epsilon) = (weight, groups, epsilon)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight", &weight)
  }

  /// x, `skipped` (v) and gate (batch, length, width) of one type, skip (D) (heads) f32.
  /// - Throws: `TensorError` when shapes or types do not fit.
  public func callAsFunction(_ x: Tensor, skip: Tensor, skipped: Tensor, gate: Tensor) throws -> Tensor {
    let call = try GatedNormCall(x, skip, skipped, gate, self)
    let (output, inverse) = try call.forward()
    return Tensor.record("gatedGroupNorm", [x, skip, skipped, gate, weight], output: output) { gradient in
      try call.backward(gradient, inverse)
    }
  }

  /// The same in simple operations: the oracle of the fused form.
  package func reference(_ x: Tensor, skip: Tensor, skipped: Tensor, gate: Tensor) throws -> Tensor {
    let lead = Array(x.shape.dropLast())
    func wide(_ x: Tensor, _ parts: Int) throws -> Tensor {
      try x.cast(to: .float32).reshaped(lead + [parts, weight.count / parts])
    }
    let u = try wide(x, skip.count) + wide(skipped, skip.count) * skip.expanded(at: 1)
    let gated = try wide(u.reshaped(x.shape), groups) * wide(gate, groups).silu()
    let scale = try (gated.squared().mean(axis: -1, keepingAxis: true) + epsilon).reciprocalSquareRoot()
    return try ((gated * scale).reshaped(x.shape) * weight).cast(to: x.dtype)
  }
}

private struct GatedNormCall: Sendable {
  let x: Tensor
  let skip: Tensor
  let skipped: Tensor
  let gate: Tensor
  let weight: Tensor
  let groups: Int
  let epsilon: Float

  init(_ x: Tensor, _ skip: Tensor, _ skipped: Tensor, _ gate: Tensor, _ norm: GatedGroupNorm) throws {
    let width = norm.weight.count
    try require(
      x.rank == 3 && x.shape[2] == width && width > 0 && x.dtype.isFloatingPoint && skipped.shape == x.shape
        && gate.shape == x.shape && skipped.dtype == x.dtype && gate.dtype == x.dtype,
      "gatedGroupNorm", expected: "x, skipped and gate (batch, length, \(width)) of one type",
      got: "\(x), \(skipped), \(gate)")
    try require(
      skip.rank == 1 && skip.dtype == .float32 && norm.weight.dtype == .float32 && skip.count > 0 && norm.groups > 0
        && width % skip.count == 0 && width % norm.groups == 0,
      "gatedGroupNorm", expected: "F32 skip and weight; heads and groups that divide \(width)",
      got: "\(skip), \(norm.weight), \(norm.groups) groups")
    self.x = try Self.rows(x)
    self.skip = try skip.detached.contiguous()
    self.skipped = try Self.rows(skipped)
    self.gate = try Self.rows(gate)
    weight = try norm.weight.detached.contiguous()
    (groups, epsilon) = (norm.groups, norm.epsilon)
  }

  /// A tensor whose rows stand at one distance from each other, copied where they do not.
  private static func rows(_ x: Tensor) throws -> Tensor {
    let view = try x.rowMajorFeatures()
    let isEven = view.shape[0] == 1 || view.shape[1] == 1 || view.strides[0] == view.shape[1] * view.strides[1]
    return isEven ? view : try view.contiguous()
  }

  private var shape: fm_gated_norm_shape {
    func stride(_ x: Tensor) -> Int64 { Int64(x.strides[x.shape[1] == 1 ? 0 : 1]) }
    var shape = fm_gated_norm_shape()
    shape.type = x.kernelType
    (shape.rows, shape.width) = (Int64(x.shape[0] * x.shape[1]), Int64(x.shape[2]))
    (shape.groups, shape.heads) = (Int64(groups), Int64(skip.count))
    (shape.x, shape.x_stride) = (UnsafeRawPointer(x.pointer), stride(x))
    (shape.v, shape.v_stride) = (UnsafeRawPointer(skipped.pointer), stride(skipped))
    (shape.gate, shape.gate_stride) = (UnsafeRawPointer(gate.pointer), stride(gate))
    shape.skip = UnsafePointer(skip.floatPointer)
    shape.weight = UnsafePointer(weight.floatPointer)
    shape.epsilon = epsilon
    return shape
  }

  func forward() throws -> (output: Tensor, inverse: Tensor) {
    let output = try Tensor(uninitialized: x.shape, x.dtype)
    let inverse = try Tensor(uninitialized: [x.shape[0], x.shape[1], groups])
    var shape = shape
    let status = fm_gated_norm(&shape, output.pointer, inverse.floatPointer)
    withExtendedLifetime(self) {}
    try require(status == 0, "gatedGroupNorm", expected: "scratch memory for some rows", got: "none")
    Work.add(flops: 10 * x.count, bytes: 4 * x.byteCount)
    return (output, inverse)
  }

  func backward(_ gradient: Tensor, _ inverse: Tensor) throws -> [Tensor?] {
    let dy = try gradient.contiguous()
    let activations = try (0..<3).map { _ in try Tensor(uninitialized: x.shape, x.dtype) }
    let (dskip, dweight) = (try Tensor(uninitialized: skip.shape), try Tensor(uninitialized: weight.shape))
    var gradients = fm_gated_norm_gradients()
    (gradients.dx, gradients.dv, gradients.dgate) = (
      activations[0].pointer, activations[1].pointer, activations[2].pointer
    )
    (gradients.dskip, gradients.dweight) = (dskip.floatPointer, dweight.floatPointer)
    var shape = shape
    let status = fm_gated_norm_backward(&shape, inverse.floatPointer, dy.pointer, &gradients)
    withExtendedLifetime((self, inverse, dy, activations)) {}
    try require(status == 0, "gatedGroupNorm backward", expected: "scratch memory for some rows", got: "none")
    Work.add(flops: 25 * x.count, bytes: 7 * x.byteCount)
    return [activations[0], dskip, activations[1], activations[2], dweight]
  }
}
