import CFermataKernels
import FermataLayers
import FermataTensors

/// What a selective scan reads. Activations are of one floating type, the rest is f32.
public struct SelectiveScanInputs: Sendable {
  /// (batch, length, channels)
  public var x: Tensor
  /// The step before bias and softplus: (batch, length, channels).
  public var step: Tensor
  /// (channels)
  public var stepBias: Tensor
  /// A, at most 0: (states, channels).
  public var a: Tensor
  /// How tokens write to and read from the states: (batch, length, states), shared by all channels.
  public var b: Tensor
  public var c: Tensor
  /// D: (channels).
  public var skip: Tensor
  /// (batch, length, channels); nil: outputs are not gated.
  public var gate: Tensor?

  public init(
    x: Tensor, step: Tensor, stepBias: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, gate: Tensor? = nil
  ) {
    (self.x, self.step, self.stepBias, self.a, self.b, self.c, self.skip, self.gate) = (
      x, step, stepBias, a, b, c, skip, gate
    )
  }

  var all: [Tensor] { [x, step, stepBias, a, b, c, skip] + (gate.map { [$0] } ?? []) }
}

/// Mamba's selective scan (Gu & Dao 2023), fused:
///
///     Δ_t = softplus(step_t + stepBias),   h_t = e^{Δ_t A} h_{t-1} + Δ_t x_t b_t,   y_t = c_t · h_t + D x_t
///
/// and outputs y_t silu(gate_t). state (batch, states, channels) f32; u8 resets and valid (batch, length) as in a layout: the
/// state is zeroed at resets, padding leaves it as it is and has outputs of zero.
///
/// The backward computes the states again from those kept at every 64th position: 1/64 of what all of them would take.
/// - Throws: `TensorError` when shapes or types do not fit.
public func selectiveScan(
  _ inputs: SelectiveScanInputs, state: Tensor, resets: Tensor? = nil, valid: Tensor? = nil
) throws -> (output: Tensor, state: Tensor) {
  let call = try SelectiveScanCall(inputs, state, resets: resets, valid: valid)
  let all = inputs.all + [state]
  let (output, final, chunks) = try call.forward(keepingChunks: all.contains(where: \.isTracked))
  let recorded = Tensor.record("selectiveScan", all, outputs: [output, final]) { gradients in
    try call.backward(chunks: chunks, doutput: gradients[0], dfinal: gradients[1])
  }
  return (recorded[0], recorded[1])
}

private struct SelectiveScanCall: Sendable {
  let inputs: SelectiveScanInputs
  let initial: Tensor
  let resets: Tensor?
  let valid: Tensor?

  init(_ given: SelectiveScanInputs, _ state: Tensor, resets: Tensor?, valid: Tensor?) throws {
    let (x, a) = (given.x, given.a)
    let rows = given.b.shape
    try require(
      x.rank == 3 && x.dtype.isFloatingPoint && given.step.shape == x.shape && given.b.rank == 3
        && rows.prefix(2) == x.shape.prefix(2) && given.c.shape == rows
        && (given.gate.map { $0.shape == x.shape } ?? true)
        && ([given.step, given.b, given.c] + (given.gate.map { [$0] } ?? [])).allSatisfy { $0.dtype == x.dtype },
      "selectiveScan",
      expected: "x, step and gate (batch, length, channels), b and c (batch, length, states) of one type",
      got: "\(x), \(given.step), \(given.gate.map { "\($0)" } ?? "no gate"), \(given.b), \(given.c)")
    let (states, channels) = (rows[2], x.shape[2])
    try require(
      states > 0 && a.shape == [states, channels] && given.stepBias.shape == [channels]
        && given.skip.shape == [channels] && [a, given.stepBias, given.skip].allSatisfy { $0.dtype == .float32 },
      "selectiveScan", expected: "F32 a (\(states), \(channels)), skip and stepBias (\(channels))",
      got: "\(a), \(given.skip), \(given.stepBias)")
    try require(
      state.shape == [x.shape[0], states, channels] && state.dtype == .float32, "selectiveScan",
      expected: "an F32 state of \([x.shape[0], states, channels])", got: "\(state)",
      advice: "the state was made with another model or batch")
    for flags in [resets, valid] {
      try require(
        flags == nil || (flags?.shape == Array(x.shape.prefix(2)) && flags?.dtype == .uint8), "selectiveScan",
        expected: "U8 resets and valid (batch, length)", got: "\(flags.map { "\($0)" } ?? "none")")
    }
    inputs = SelectiveScanInputs(
      x: try x.rowMajorFeatures(), step: try given.step.rowMajorFeatures(),
      stepBias: try given.stepBias.detached.contiguous(), a: try a.detached.contiguous(),
      b: try given.b.rowMajorFeatures(), c: try given.c.rowMajorFeatures(),
      skip: try given.skip.detached.contiguous(), gate: try given.gate?.rowMajorFeatures())
    initial = try state.detached.contiguous()
    self.resets = try resets?.detached.contiguous()
    self.valid = try valid?.detached.contiguous()
  }

  private var states: Int { inputs.a.shape[0] }

  private var shape: fm_selective_scan_shape {
    func strides(_ x: Tensor) -> (Int64, Int64) { (Int64(x.strides[0]), Int64(x.strides[1])) }
    var shape = fm_selective_scan_shape()
    let x = inputs.x
    shape.type = x.kernelType
    (shape.batch, shape.length, shape.channels) = (Int64(x.shape[0]), Int64(x.shape[1]), Int64(x.shape[2]))
    shape.states = Int64(states)
    (shape.x, shape.x_stride) = (UnsafeRawPointer(x.pointer), strides(x))
    (shape.step, shape.step_stride) = (UnsafeRawPointer(inputs.step.pointer), strides(inputs.step))
    (shape.b, shape.b_stride) = (UnsafeRawPointer(inputs.b.pointer), strides(inputs.b))
    (shape.c, shape.c_stride) = (UnsafeRawPointer(inputs.c.pointer), strides(inputs.c))
    if let gate = inputs.gate { (shape.gate, shape.gate_stride) = (UnsafeRawPointer(gate.pointer), strides(gate)) }
    shape.a = UnsafePointer(inputs.a.floatPointer)
    shape.skip = UnsafePointer(inputs.skip.floatPointer)
    shape.step_bias = UnsafePointer(inputs.stepBias.floatPointer)
    shape.resets = resets.map { UnsafePointer($0.bytePointer) }
    shape.valid = valid.map { UnsafePointer($0.bytePointer) }
    return shape
  }

  /// Decay, input and read-out of every state; an exponential counts as ten operations.
  private var flops: Int { inputs.x.count * (16 * states + 20) }
  private var bytes: Int { 4 * inputs.x.byteCount + 2 * inputs.b.byteCount }

  func forward(keepingChunks: Bool) throws -> (output: Tensor, final: Tensor, chunks: Tensor?) {
    let x = inputs.x
    let output = try Tensor(uninitialized: x.shape, x.dtype)
    let final = try Tensor(uninitialized: initial.shape)
    let chunkCount = (x.shape[1] + Int(FM_SELECTIVE_CHUNK) - 1) / Int(FM_SELECTIVE_CHUNK)
    let chunks = keepingChunks ? try Tensor(uninitialized: [x.shape[0], chunkCount, states, x.shape[2]]) : nil
    var shape = shape
    let scratch = try Tensor(uninitialized: [Int(fm_selective_scan_scratch(&shape))])
    fm_selective_scan(
      &shape, initial.floatPointer, output.pointer, final.floatPointer, chunks?.floatPointer, scratch.floatPointer)
    withExtendedLifetime((self, scratch)) {}
    Work.add(flops: flops, bytes: bytes)
    return (output, final, chunks)
  }

  func backward(chunks: Tensor?, doutput: Tensor?, dfinal: Tensor?) throws -> [Tensor?] {
    guard let chunks else { return [] }
    func like(_ x: Tensor) throws -> Tensor { try Tensor(uninitialized: x.shape, x.dtype) }
    let found = try (inputs.all + [initial]).map(like)
    let dy = try doutput?.contiguous()
    let dstate = try dfinal?.contiguous()
    var gradients = fm_selective_scan_gradients()
    (gradients.dx, gradients.dstep, gradients.dstep_bias) = (found[0].pointer, found[1].pointer, found[2].floatPointer)
    (gradients.da, gradients.db, gradients.dc) = (found[3].floatPointer, found[4].pointer, found[5].pointer)
    gradients.dskip = found[6].floatPointer
    gradients.dgate = inputs.gate == nil ? nil : found[7].pointer
    gradients.dinitial_state = found[found.count - 1].floatPointer
    var shape = shape
    let scratch = try Tensor(uninitialized: [Int(fm_selective_scan_backward_scratch(&shape))])
    fm_selective_scan_backward(
      &shape, chunks.floatPointer, dy?.pointer, dstate?.floatPointer, &gradients, scratch.floatPointer)
    withExtendedLifetime((self, chunks, dy, dstate, scratch, found)) {}
    Work.add(flops: 2 * flops, bytes: 2 * bytes)
    return found
  }
}

/// The same, one token after another in simple operations: the oracle of the fused form, derived from the equation alone.
package func selectiveScanReference(
  _ inputs: SelectiveScanInputs, state: Tensor, resets: Tensor? = nil, valid: Tensor? = nil
) throws -> (output: Tensor, state: Tensor) {
  let (batch, length) = (inputs.x.shape[0], inputs.x.shape[1])
  func token(_ x: Tensor, _ index: Int) throws -> Tensor { try x.cast(to: .float32).select(index, axis: 1) }
  var h = state
  var outputs: [Tensor] = []
  for index in 0..<length {
    if let resets { h = try h * (1 - resets.select(index, axis: 1).cast(to: .float32).reshaped([batch, 1, 1])) }
    let x = try token(inputs.x, index)
    let step = try (token(inputs.step, index) + inputs.stepBias).softplus()
    let written = try token(inputs.b, index).expanded(at: 2) * (step * x).expanded(at: 1)
    let next = try (step.expanded(at: 1) * inputs.a).exp() * h + written
    var y = try (next * token(inputs.c, index).expanded(at: 2)).sum(axis: 1) + inputs.skip * x
    if let gate = inputs.gate { y = try y * token(gate, index).silu() }
    if let valid {
      let shown = try valid.select(index, axis: 1).expanded(at: 1)
      h = try Tensor.selecting(shown.expanded(at: 2), next, h)
      y = try Tensor.selecting(shown, y, Tensor.zeros([]))
    } else {
      h = next
    }
    outputs.append(try y.expanded(at: 1))
  }
  if outputs.isEmpty { return (try Tensor.zeros(inputs.x.shape, inputs.x.dtype), h) }
  return (try Tensor.concatenated(outputs, axis: 1).cast(to: inputs.x.dtype), h)
}
