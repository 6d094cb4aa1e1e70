import CFermataKernels
import FermataTensors

/// Causal depthwise convolution over a few positions, the local mixing before a gated linear recurrence
/// (H3, Fu et al. 2023; Mamba, Gu & Dao 2023):
///
///     z_tc = b_c + Σ_{k<K} w_{c,k} x_{t-K+1+k, c},   y = z or silu(z)
///
/// Its state, the *tail*, is the last K − 1 valid inputs (batch, K − 1, channels) in f32: 4 · batch · (K − 1) · channels bytes.
/// The weight is (channels, 1, K), as PyTorch's `Conv1d` of as many groups stores it.
public struct ShortConvolution: Module {
  public var weight: Tensor
  public var bias: Tensor?
  /// Whether y = silu(z).
  public var appliesSiLU: Bool

  public init(weight: Tensor, bias: Tensor? = nil, appliesSiLU: Bool = true) {
    self.weight = weight
    self.bias = bias
    self.appliesSiLU = appliesSiLU
  }

  /// Weights uniform in ±1/√width; the bias, where there is one, is zero.
  public init(
    channels: Int, width: Int, bias: Bool = true, appliesSiLU: Bool = true, random: inout RandomSource
  ) throws {
    let bound = 1 / Float(max(width, 1)).squareRoot()
    self.init(
      weight: try random.uniform([channels, 1, width], -bound, bound), bias: bias ? try Tensor.zeros([channels]) : nil,
      appliesSiLU: appliesSiLU)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight", &weight)
    try visitor.parameter("bias", &bias)
  }

  public var channels: Int { weight.shape[0] }
  /// K, the number of positions that an output sees.
  public var width: Int { weight.shape[weight.rank - 1] }

  /// The tail before the first token: zeros.
  public func initialTail(batch: Int) throws -> Tensor { try Tensor.zeros([batch, width - 1, channels]) }

  /// Bytes of the tail.
  public func tailBytes(batch: Int) -> Int { 4 * batch * (width - 1) * channels }

  /// Outputs for x (batch, length, channels) after a tail, and the tail after it. u8 resets and valid (batch, length) as in a
  /// piece's layout: no document sees the one before it; padding is passed over and its outputs are zeros.
  public func callAsFunction(_ x: Tensor, tail: Tensor, resets: Tensor? = nil, valid: Tensor? = nil) throws -> (
    output: Tensor, tail: Tensor
  ) {
    try shortConvolution(
      x, weight: weight, bias: bias, tail: tail, appliesSiLU: appliesSiLU, resets: resets, valid: valid)
  }
}

/// The convolution of `ShortConvolution` as an operation, fused with bias and SiLU; x in f32 or bf16, all else in f32.
/// - Throws: `TensorError` when shapes or types do not fit.
public func shortConvolution(
  _ x: Tensor, weight: Tensor, bias: Tensor?, tail: Tensor, appliesSiLU: Bool, resets: Tensor? = nil,
  valid: Tensor? = nil
) throws -> (output: Tensor, tail: Tensor) {
  let call = try ConvolutionCall(x, weight, bias, tail, appliesSiLU, resets: resets, valid: valid)
  let inputs = [x, weight, tail] + (bias.map { [$0] } ?? [])
  let recorded = Tensor.record("shortConvolution", inputs, outputs: try call.forward()) { gradients in
    try call.backward(doutput: gradients[0], dtail: gradients[1])
  }
  return (recorded[0], recorded[1])
}

private struct ConvolutionCall: Sendable {
  let x: Tensor
  let weight: Tensor
  let bias: Tensor?
  let tail: Tensor
  let appliesSiLU: Bool
  let resets: Tensor?
  let valid: Tensor?
  let weightType: DType

  init(
    _ x: Tensor, _ weight: Tensor, _ bias: Tensor?, _ tail: Tensor, _ appliesSiLU: Bool, resets: Tensor?, valid: Tensor?
  ) throws {
    try require(
      x.rank == 3 && x.dtype.isFloatingPoint && weight.rank == 3 && weight.shape[0] == x.shape[2]
        && weight.shape[1] == 1 && (1...Int(FM_CONVOLUTION_WIDEST)).contains(weight.shape[2])
        && weight.dtype.isFloatingPoint,
      "shortConvolution",
      expected: "x (batch, length, channels) and weight (channels, 1, width), width in 1...\(FM_CONVOLUTION_WIDEST)",
      got: "\(x) and \(weight)")
    try require(
      bias == nil || (bias?.shape == [x.shape[2]] && bias?.dtype == .float32), "shortConvolution",
      expected: "an F32 bias of shape [\(x.shape[2])]", got: "\(bias.map { "\($0)" } ?? "none")")
    let tailShape = [x.shape[0], weight.shape[2] - 1, x.shape[2]]
    try require(
      tail.shape == tailShape && tail.dtype == .float32, "shortConvolution", expected: "an F32 tail of \(tailShape)",
      got: "\(tail)", advice: "the state was made with another model or batch")
    for flags in [resets, valid] {
      try require(
        flags == nil || (flags?.shape == Array(x.shape.prefix(2)) && flags?.dtype == .uint8), "shortConvolution",
        expected: "U8 resets and valid (batch, length)", got: "\(flags.map { "\($0)" } ?? "none")")
    }
    self.x = try x.rowMajorFeatures()
    self.weight = try weight.detached.cast(to: .float32).contiguous()
    self.bias = try bias?.detached.contiguous()
    self.tail = try tail.detached.contiguous()
    self.appliesSiLU = appliesSiLU
    self.resets = try resets?.detached.contiguous()
    self.valid = try valid?.detached.contiguous()
    weightType = weight.dtype
  }

  private var shape: fm_convolution_shape {
    var shape = fm_convolution_shape()
    shape.type = x.kernelType
    (shape.batch, shape.length, shape.channels) = (Int64(x.shape[0]), Int64(x.shape[1]), Int64(x.shape[2]))
    shape.width = Int64(weight.shape[2])
    shape.x_stride = (Int64(x.strides[0]), Int64(x.strides[1]))
    shape.weight = UnsafePointer(weight.floatPointer)
    shape.bias = bias.map { UnsafePointer($0.floatPointer) }
    shape.silu = appliesSiLU ? 1 : 0
    shape.resets = resets.map { UnsafePointer($0.bytePointer) }
    shape.valid = valid.map { UnsafePointer($0.bytePointer) }
    return shape
  }

  private var flops: Int { x.count * (2 * weight.shape[2] + (appliesSiLU ? 4 : 0)) }

  func forward() throws -> [Tensor] {
    let output = try Tensor(uninitialized: x.shape, x.dtype)
    let final = try Tensor(uninitialized: tail.shape)
    var shape = shape
    let status = fm_short_convolution(&shape, x.pointer, tail.floatPointer, output.pointer, final.floatPointer)
    withExtendedLifetime(self) {}
    try require(status == 0, "shortConvolution", expected: "scratch memory for a block of channels", got: "none")
    Work.add(flops: flops, bytes: 2 * x.byteCount)
    return [output, final]
  }

  func backward(doutput: Tensor?, dtail: Tensor?) throws -> [Tensor?] {
    let dy = try doutput?.contiguous()
    let dfinal = try dtail?.contiguous()
    let dx = try Tensor(uninitialized: x.shape, x.dtype)
    let dweight = try Tensor(uninitialized: weight.shape)
    let dbias = try bias.map { try Tensor(uninitialized: $0.shape) }
    let dinitial = try Tensor(uninitialized: tail.shape)
    var shape = shape
    let status = fm_short_convolution_backward(
      &shape, x.pointer, tail.floatPointer, dy?.pointer, dfinal?.floatPointer, dx.pointer, dinitial.floatPointer,
      dweight.floatPointer, dbias?.floatPointer)
    withExtendedLifetime((self, dy, dfinal)) {}
    try require(
      status == 0, "shortConvolution backward", expected: "scratch memory for a block of channels", got: "none")
    Work.add(flops: 3 * flops, bytes: 3 * x.byteCount)
    return [dx, try dweight.cast(to: weightType), dinitial] + (dbias.map { [$0] } ?? [])
  }
}

/// The same, one token after another in simple operations: the oracle of the fused form.
package func shortConvolutionReference(
  _ x: Tensor, weight: Tensor, bias: Tensor?, tail: Tensor, appliesSiLU: Bool, resets: Tensor? = nil,
  valid: Tensor? = nil
) throws -> (output: Tensor, tail: Tensor) {
  let (batch, length, channels, width) = (x.shape[0], x.shape[1], x.shape[2], weight.shape[2])
  // (K, channels), beside which K inputs lie.
  let taps = try weight.cast(to: .float32).reshaped([channels, width]).transposed(0, 1)
  let none = try Tensor.zeros([batch, channels])
  var tail = tail
  var outputs: [Tensor] = []
  for index in 0..<length {
    if let resets { tail = try tail * (1 - resets.select(index, axis: 1).cast(to: .float32).reshaped([batch, 1, 1])) }
    let seen = try Tensor.concatenated([tail, x.cast(to: .float32).slice(index..<index + 1, axis: 1)], axis: 1)
    var z = try (seen * taps).sum(axis: 1)
    if let bias { z = try z + bias }
    var y = appliesSiLU ? try z.silu() : z
    var next = try seen.slice(1..<width, axis: 1)
    if let valid {
      let shown = try valid.select(index, axis: 1)
      y = try Tensor.selecting(shown.expanded(at: 1), y, none)
      next = try Tensor.selecting(shown.reshaped([batch, 1, 1]), next, tail)
    }
    tail = next
    outputs.append(try y.expanded(at: 1))
  }
  if outputs.isEmpty { return (try Tensor.zeros(x.shape, x.dtype), tail) }
  return (try Tensor.concatenated(outputs, axis: 1).cast(to: x.dtype), tail)
}
