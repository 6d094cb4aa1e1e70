import CFermataKernels
import FermataTensors

/// The recurrence of a diagonal state space with real inputs and outputs:
///
///     x_t = a ⊙ x_{t-1} + u_t,   y_t = Σ_n Re(r_n x_{t,n}) + skip · u_t
///
/// input (batch, length, channels), f32 or bf16; decay a and readout r (2, modes, channels) f32, real plane then imaginary;
/// skip (channels) f32; state x (batch, 2, modes, channels) f32, nil for zeros; resets u8 (batch, length) where the state is
/// zeroed first; valid u8 (batch, length), 0 where a token changes nothing and its output is 0.
/// Returns outputs like the input, and the state. Backward keeps one state for every 64 tokens.
/// S4D (Gu et al. 2022) and H3's diagonal layer (Fu et al. 2023) are this.
public func diagonalScan(
  _ input: Tensor, decay: Tensor, readout: Tensor, skip: Tensor, state: Tensor?, resets: Tensor? = nil,
  valid: Tensor? = nil
) throws -> (output: Tensor, state: Tensor) {
  try require(
    input.rank == 3 && input.dtype.isFloatingPoint && decay.rank == 3 && decay.shape[0] == 2
      && decay.shape[2] == input.shape[2] && readout.shape == decay.shape && skip.shape == [input.shape[2]],
    "diagonalScan",
    expected: "input (batch, length, channels), decay and readout (2, modes, channels), skip (channels)",
    got: "\(input), \(decay), \(readout), \(skip)")
  return try scan(
    DiagonalScanCall(input, decay, readout, skip, initial: state, resets: resets, valid: valid),
    [input, decay, readout, skip] + (state.map { [$0] } ?? []))
}

/// The same where every channel is one mode, with complex inputs and the modes themselves as outputs: x_t = a ⊙ x_{t-1} + u_t.
///
/// input (batch, length, 2, channels), f32 or bf16; decay (2, 1, channels) f32; state (batch, 2, 1, channels) f32, nil for
/// zeros. Returns x_t like the input, and the state. S5 (Smith et al. 2023) puts matrices before and after.
public func complexScan(
  _ input: Tensor, decay: Tensor, state: Tensor?, resets: Tensor? = nil, valid: Tensor? = nil
) throws -> (output: Tensor, state: Tensor) {
  try require(
    input.rank == 4 && input.dtype.isFloatingPoint && input.shape[2] == 2 && decay.shape == [2, 1, input.shape[3]],
    "complexScan", expected: "input (batch, length, 2, channels), decay (2, 1, channels)", got: "\(input), \(decay)")
  return try scan(
    DiagonalScanCall(input, decay, nil, nil, initial: state, resets: resets, valid: valid),
    [input, decay] + (state.map { [$0] } ?? []))
}

private func scan(_ call: DiagonalScanCall, _ inputs: [Tensor]) throws -> (output: Tensor, state: Tensor) {
  let (output, final, chunks) = try call.forward(keepingChunks: inputs.contains(where: \.isTracked))
  let recorded = Tensor.record("diagonalScan", inputs, outputs: [output, final]) { gradients in
    try call.backward(chunks: chunks, doutput: gradients[0], dfinal: gradients[1])
  }
  return (recorded[0], recorded[1])
}

private struct DiagonalScanCall: Sendable {
  let input: Tensor
  let decay: Tensor
  let readout: Tensor?
  let skip: Tensor?
  let initial: Tensor?
  let resets: Tensor?
  let valid: Tensor?

  init(
    _ input: Tensor, _ decay: Tensor, _ readout: Tensor?, _ skip: Tensor?, initial: Tensor?, resets: Tensor?,
    valid: Tensor?
  ) throws {
    for tensor in [decay, readout, skip].compactMap({ $0 }) {
      try require(tensor.dtype == .float32, "diagonalScan", expected: "F32 parameters", got: "\(tensor)")
    }
    let stateShape = [input.shape[0]] + decay.shape
    try require(
      initial == nil || (initial?.shape == stateShape && initial?.dtype == .float32), "diagonalScan",
      expected: "an F32 state of shape \(stateShape)", got: initial.map { "\($0)" } ?? "none",
      advice: "the state was made with another model or batch")
    for flags in [resets, valid].compactMap({ $0 }) {
      try require(
        flags.shape == Array(input.shape.prefix(2)) && flags.dtype == .uint8, "diagonalScan",
        expected: "U8 resets and valid (batch, length)", got: "\(flags)")
    }
    let (strides, width) = (input.strides, input.shape[input.rank - 1])
    let isDense = strides[input.rank - 1] == 1 && (input.rank == 3 || strides[2] == width)
    self.input = isDense ? input.detached : try input.detached.contiguous()
    self.decay = try decay.detached.contiguous()
    self.readout = try readout?.detached.contiguous()
    self.skip = try skip?.detached.contiguous()
    self.initial = try initial?.detached.contiguous()
    self.resets = try resets?.detached.contiguous()
    self.valid = try valid?.detached.contiguous()
  }

  private var batch: Int { input.shape[0] }
  private var length: Int { input.shape[1] }
  private var stateShape: [Int] { [batch] + decay.shape }
  /// Floating-point operations of the forward: a complex product, the readout.
  private var flops: Int { batch * length * decay.count / 2 * (readout == nil ? 8 : 12) }

  private var shape: fm_diagonal_scan_shape {
    var shape = fm_diagonal_scan_shape()
    shape.type = input.kernelType
    shape.batch = Int64(batch)
    shape.length = Int64(length)
    shape.channels = Int64(decay.shape[2])
    shape.modes = Int64(decay.shape[1])
    shape.planes = readout == nil ? 2 : 1
    shape.input_stride = (Int64(input.strides[0]), Int64(input.strides[1]))
    shape.resets = resets.map { UnsafePointer($0.bytePointer) }
    shape.valid = valid.map { UnsafePointer($0.bytePointer) }
    return shape
  }

  func forward(keepingChunks: Bool) throws -> (output: Tensor, final: Tensor, chunks: Tensor?) {
    let output = try Tensor(uninitialized: input.shape, input.dtype)
    let final = try Tensor(uninitialized: stateShape)
    let count = (length + Int(FM_DIAGONAL_CHUNK) - 1) / Int(FM_DIAGONAL_CHUNK)
    let chunks = keepingChunks ? try Tensor(uninitialized: [batch, count] + decay.shape) : nil
    var shape = shape
    let status = fm_diagonal_scan(
      &shape, input.pointer, decay.floatPointer, readout?.floatPointer, skip?.floatPointer, initial?.floatPointer,
      output.pointer, final.floatPointer, chunks?.floatPointer)
    withExtendedLifetime(self) {}
    try require(status == 0, "diagonalScan", expected: "scratch memory for a chunk", got: "none")
    Work.add(flops: flops, bytes: input.byteCount + output.byteCount + (chunks?.byteCount ?? 0))
    return (output, final, chunks)
  }

  /// Gradients of input, decay, readout, skip and initial state, without those that are not there.
  func backward(chunks: Tensor?, doutput: Tensor?, dfinal: Tensor?) throws -> [Tensor?] {
    guard let chunks else { return [] }
    let dy = try doutput?.contiguous()
    let dstate = try dfinal?.contiguous()
    let dinput = try Tensor(uninitialized: input.shape, input.dtype)
    let ddecay = try Tensor(uninitialized: stateShape)
    let dreadout = readout == nil ? nil : try Tensor(uninitialized: stateShape)
    let dskip = skip == nil ? nil : try Tensor(uninitialized: [batch, input.shape[2]])
    let dinitial = initial == nil ? nil : try Tensor(uninitialized: stateShape)
    var shape = shape
    let status = fm_diagonal_scan_backward(
      &shape, input.pointer, decay.floatPointer, readout?.floatPointer, skip?.floatPointer, chunks.floatPointer,
      dy?.pointer, dstate?.floatPointer, dinput.pointer, ddecay.floatPointer, dreadout?.floatPointer,
      dskip?.floatPointer, dinitial?.floatPointer)
    withExtendedLifetime((self, dy, dstate, chunks)) {}
    try require(status == 0, "diagonalScan backward", expected: "scratch memory for a chunk", got: "none")
    Work.add(flops: 3 * flops, bytes: 3 * input.byteCount + chunks.byteCount)
    let parameters = try [ddecay, dreadout, dskip].compactMap { try $0?.sum(axis: 0) }
    return [dinput] + parameters + (dinitial.map { [$0] } ?? [])
  }
}

/// The same, one token after another in simple operations: the oracle of both forms, derived from the equation alone. Inputs
/// (batch, length, channels) with a readout and a skip, or (batch, length, 2, channels) without.
package func diagonalScanReference(
  _ input: Tensor, decay: Tensor, readout: Tensor?, skip: Tensor?, state: Tensor?, resets: Tensor? = nil,
  valid: Tensor? = nil
) throws -> (output: Tensor, state: Tensor) {
  let (batch, length) = (input.shape[0], input.shape[1])
  var current = try state ?? Tensor.zeros([batch] + decay.shape)
  func flag(_ flags: Tensor, _ index: Int) throws -> Tensor {
    try flags.select(index, axis: 1).reshaped([batch, 1, 1, 1])
  }
  var outputs: [Tensor] = []
  for index in 0..<length {
    let u = try input.cast(to: .float32).select(index, axis: 1)
    if let resets { current = try current * (1 - flag(resets, index).cast(to: .float32)) }
    // (batch, 2, 1, channels): a real input has no imaginary part.
    let planes =
      u.rank == 3 ? u : try Tensor.concatenated([u.expanded(at: 1), Tensor.zeros(u.shape).expanded(at: 1)], axis: 1)
    let next = try complexProduct(decay, current) + planes.expanded(at: 2)
    let shown = try valid.map { try flag($0, index) }
    current = try shown.map { try Tensor.selecting($0, next, current) } ?? next
    var y = next
    if let readout, let skip {
      y = try complexProduct(readout, next).slice(0..<1, axis: 1).sum(axis: 2).reshaped(u.shape) + u * skip
    }
    y = try y.reshaped(u.shape)
    if let shown { y = try y * shown.cast(to: .float32).reshaped([batch] + Array(repeating: 1, count: y.rank - 1)) }
    outputs.append(try y.expanded(at: 1))
  }
  if outputs.isEmpty { return (try Tensor.zeros(input.shape, input.dtype), current) }
  return (try Tensor.concatenated(outputs, axis: 1).cast(to: input.dtype), current)
}

/// The product of complex numbers whose planes are the third axis from the end: (…, 2, modes, channels).
package func complexProduct(_ a: Tensor, _ b: Tensor) throws -> Tensor {
  func plane(_ x: Tensor, _ index: Int) throws -> Tensor { try x.slice(index..<index + 1, axis: -3) }
  let (ar, ai, br, bi) = (try plane(a, 0), try plane(a, 1), try plane(b, 0), try plane(b, 1))
  return try Tensor.concatenated([ar * br - ai * bi, ar * bi + ai * br], axis: -3)
}
