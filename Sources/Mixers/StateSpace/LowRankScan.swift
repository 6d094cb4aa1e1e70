import CFermataKernels
import FermataTensors

/// A recurrence whose transition is diagonal minus a matrix of rank one, for every channel apart:
///
///     x_t = a ⊙ x_{t-1} − w σ_{t-1} + b u_t,   σ_t = Σ_n Re(s_n x_{t,n}),   y_t = Σ_n Re(r_n x_{t,n}) + skip · u_t
///
/// Arrays are (2, modes, channels) f32, real plane then imaginary; skip (channels).
package struct LowRankSystem: Sendable {
  package var decay: Tensor
  package var correction: Tensor
  package var input: Tensor
  package var probe: Tensor
  package var readout: Tensor
  package var skip: Tensor

  /// In the order of the arguments of `init(_:)`.
  package var arrays: [Tensor] { [decay, correction, input, probe, readout, skip] }

  package init(decay: Tensor, correction: Tensor, input: Tensor, probe: Tensor, readout: Tensor, skip: Tensor) {
    (self.decay, self.correction, self.input) = (decay, correction, input)
    (self.probe, self.readout, self.skip) = (probe, readout, skip)
  }

  fileprivate func mapping(_ body: (Tensor) throws -> Tensor) rethrows -> LowRankSystem {
    LowRankSystem(
      decay: try body(decay), correction: try body(correction), input: try body(input), probe: try body(probe),
      readout: try body(readout), skip: try body(skip))
  }

  fileprivate var pointers: fm_low_rank_system {
    fm_low_rank_system(
      decay: decay.floatPointer, correction: correction.floatPointer, input: input.floatPointer,
      probe: probe.floatPointer, readout: readout.floatPointer, skip: skip.floatPointer)
  }
}

/// The recurrence above over input (batch, length, channels), f32 or bf16, from a state x (batch, 2, modes, channels) f32, nil
/// for zeros; resets and valid as in `diagonalScan`. Returns outputs like the input, and the state. Backward keeps one state
/// for every 64 tokens. S4 (Gu, Goel & Ré 2022) is this.
package func lowRankScan(
  _ input: Tensor, system: LowRankSystem, state: Tensor?, resets: Tensor? = nil, valid: Tensor? = nil
) throws -> (output: Tensor, state: Tensor) {
  let call = try LowRankScanCall(input, system, initial: state, resets: resets, valid: valid)
  let inputs = [input] + system.arrays + (state.map { [$0] } ?? [])
  let (output, final, chunks) = try call.forward(keepingChunks: inputs.contains(where: \.isTracked))
  let recorded = Tensor.record("lowRankScan", inputs, outputs: [output, final]) { gradients in
    try call.backward(chunks: chunks, doutput: gradients[0], dfinal: gradients[1])
  }
  return (recorded[0], recorded[1])
}

private struct LowRankScanCall: Sendable {
  let input: Tensor
  let system: LowRankSystem
  let initial: Tensor?
  let resets: Tensor?
  let valid: Tensor?

  init(_ input: Tensor, _ system: LowRankSystem, initial: Tensor?, resets: Tensor?, valid: Tensor?) throws {
    let shape = system.decay.shape
    try require(
      input.rank == 3 && input.dtype.isFloatingPoint && shape.count == 3 && shape[0] == 2 && shape[2] == input.shape[2]
        && system.arrays.dropLast().allSatisfy { $0.shape == shape } && system.skip.shape == [input.shape[2]]
        && system.arrays.allSatisfy { $0.dtype == .float32 },
      "lowRankScan", expected: "input (batch, length, channels), F32 arrays (2, modes, channels) and skip (channels)",
      got: "\(input), \(system.arrays)")
    let stateShape = [input.shape[0]] + shape
    try require(
      initial == nil || (initial?.shape == stateShape && initial?.dtype == .float32), "lowRankScan",
      expected: "an F32 state of shape \(stateShape)", got: initial.map { "\($0)" } ?? "none",
      advice: "the state was made with another model or batch")
    for flags in [resets, valid].compactMap({ $0 }) {
      try require(
        flags.shape == Array(input.shape.prefix(2)) && flags.dtype == .uint8, "lowRankScan",
        expected: "U8 resets and valid (batch, length)", got: "\(flags)")
    }
    self.input = try input.rowMajorFeatures()
    self.system = try system.mapping { try $0.detached.contiguous() }
    self.initial = try initial?.detached.contiguous()
    self.resets = try resets?.detached.contiguous()
    self.valid = try valid?.detached.contiguous()
  }

  private var batch: Int { input.shape[0] }
  private var stateShape: [Int] { [batch] + system.decay.shape }
  /// Floating-point operations of the forward: a complex product, correction, input, probe and readout.
  private var flops: Int { input.count * system.decay.shape[1] * 24 }

  private var shape: fm_diagonal_scan_shape {
    var shape = fm_diagonal_scan_shape()
    shape.type = input.kernelType
    (shape.batch, shape.length, shape.channels) = (Int64(batch), Int64(input.shape[1]), Int64(input.shape[2]))
    shape.modes = Int64(system.decay.shape[1])
    shape.planes = 1
    shape.input_stride = (Int64(input.strides[0]), Int64(input.strides[1]))
    shape.resets = resets.map { UnsafePointer($0.bytePointer) }
    shape.valid = valid.map { UnsafePointer($0.bytePointer) }
    return shape
  }

  func forward(keepingChunks: Bool) throws -> (output: Tensor, final: Tensor, chunks: Tensor?) {
    let output = try Tensor(uninitialized: input.shape, input.dtype)
    let final = try Tensor(uninitialized: stateShape)
    let count = (input.shape[1] + Int(FM_DIAGONAL_CHUNK) - 1) / Int(FM_DIAGONAL_CHUNK)
    let chunks = keepingChunks ? try Tensor(uninitialized: [batch, count] + system.decay.shape) : nil
    var (shape, pointers) = (shape, system.pointers)
    let status = fm_low_rank_scan(
      &shape, &pointers, input.pointer, initial?.floatPointer, output.pointer, final.floatPointer, chunks?.floatPointer)
    withExtendedLifetime(self) {}
    try require(status == 0, "lowRankScan", expected: "scratch memory for a chunk", got: "none")
    Work.add(flops: flops, bytes: input.byteCount + output.byteCount + (chunks?.byteCount ?? 0))
    return (output, final, chunks)
  }

  /// Gradients of the input, the system's arrays and the initial state, if there is one.
  func backward(chunks: Tensor?, doutput: Tensor?, dfinal: Tensor?) throws -> [Tensor?] {
    guard let chunks else { return [] }
    let dy = try doutput?.contiguous()
    let dstate = try dfinal?.contiguous()
    let dinput = try Tensor(uninitialized: input.shape, input.dtype)
    let gradient = try system.mapping { try Tensor(uninitialized: [batch] + $0.shape) }
    let dinitial = initial == nil ? nil : try Tensor(uninitialized: stateShape)
    var (shape, pointers, gradientPointers) = (shape, system.pointers, gradient.pointers)
    let status = fm_low_rank_scan_backward(
      &shape, &pointers, input.pointer, chunks.floatPointer, dy?.pointer, dstate?.floatPointer, dinput.pointer,
      &gradientPointers, dinitial?.floatPointer)
    withExtendedLifetime((self, dy, dstate, chunks, gradient)) {}
    try require(status == 0, "lowRankScan backward", expected: "scratch memory for a chunk", got: "none")
    Work.add(flops: 3 * flops, bytes: 3 * input.byteCount + chunks.byteCount)
    return try [dinput] + gradient.arrays.map { try $0.sum(axis: 0) } + (dinitial.map { [$0] } ?? [])
  }
}

/// The same, one token after another in simple operations: the oracle of the fused form, derived from the equation alone.
package func lowRankScanReference(
  _ input: Tensor, system: LowRankSystem, state: Tensor?, resets: Tensor? = nil, valid: Tensor? = nil
) throws -> (output: Tensor, state: Tensor) {
  let (batch, length, channels) = (input.shape[0], input.shape[1], input.shape[2])
  var current = try state ?? Tensor.zeros([batch] + system.decay.shape)
  func flag(_ flags: Tensor, _ index: Int) throws -> Tensor {
    try flags.select(index, axis: 1).reshaped([batch, 1, 1, 1])
  }
  /// Σ_n Re(weights_n x_n), (batch, 1, 1, channels)
  func read(_ weights: Tensor, _ x: Tensor) throws -> Tensor {
    try complexProduct(weights, x).slice(0..<1, axis: 1).sum(axis: 2, keepingAxis: true)
  }
  var outputs: [Tensor] = []
  for index in 0..<length {
    let u = try input.cast(to: .float32).select(index, axis: 1).reshaped([batch, 1, 1, channels])
    if let resets { current = try current * (1 - flag(resets, index).cast(to: .float32)) }
    let next =
      try complexProduct(system.decay, current) - system.correction * read(system.probe, current) + system.input * u
    var y = try read(system.readout, next) + u * system.skip
    if let valid {
      current = try Tensor.selecting(flag(valid, index), next, current)
      y = try y * flag(valid, index).cast(to: .float32)
    } else {
      current = next
    }
    outputs.append(try y.reshaped([batch, 1, channels]))
  }
  if outputs.isEmpty { return (try Tensor.zeros(input.shape, input.dtype), current) }
  return (try Tensor.concatenated(outputs, axis: 1).cast(to: input.dtype), current)
}
