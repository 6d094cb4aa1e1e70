import CFermataKernels
import FermataLayers
import FermataTensors

/// The recurrence of every mixer whose state is a matrix, in chunks:
///
///     S_t = diag(e^{g_t}) S_{t-1} + k_tᵀ u_t,   o_t = scale · q_t S_t
///
/// with u_t = v_t, with weights u_t = w_t v_t, or with rates β the delta rule's u_t = β_t (v_t − k_t diag(e^{g_t}) S_{t-1}).
///
/// query, key (batch, length, keyHeads, keyWidth), value (batch, length, heads, valueWidth) of one floating type; keyHeads
/// divides heads, and each serves heads / keyHeads of the values' neighbouring heads;
/// gate, the logarithm of the decay, f32 and ≤ 0: (batch, length, heads, keyWidth) as in GLA (Yang et al. 2024), or
/// (batch, length, heads) as in Mamba-2 (Dao & Gu 2024); a broadcast view serves where it is constant;
/// rate f32 (batch, length, heads): the delta rule's (Schlag et al. 2021), nil without it;
/// weight f32 (batch, length, heads): what is written of each value, Mamba-2's Δ; only with one decay a head and no rates;
/// state (batch, heads, keyWidth, valueWidth) f32, nil for zeros; resets u8 (batch, length) where it is zeroed first.
/// Returns outputs (batch, length, heads, valueWidth) and the state. Computed in f32, but for pieces of more than 8 tokens with one
/// decay a head and no rates: in bf16, where the processor multiplies that, what is multiplied is rounded to it. The state stays f32.
/// - Throws: `TensorError` for other shapes and types, and when there is no memory for scratch.
public func gatedScan(
  query: Tensor, key: Tensor, value: Tensor, gate: Tensor, rate: Tensor? = nil, weight: Tensor? = nil, state: Tensor?,
  resets: Tensor? = nil, scale: Float
) throws -> (output: Tensor, state: Tensor) {
  var (query, key) = (query, key)
  if gate.rank == 4 || rate != nil {
    (query, key) = (try repeatingHeads(query, as: value), try repeatingHeads(key, as: value))
  }
  let call = try GatedScanCall(
    query: query, key: key, value: value, gate: gate, rate: rate, weight: weight, initial: state, resets: resets,
    scale: scale)
  let optional = [rate, weight, state].compactMap { $0 }
  let inputs = [query, key, value, gate] + optional
  let (output, final, chunks) = try call.forward(keepingChunks: inputs.contains(where: \.isTracked))
  let wantsGate = gate.isTracked
  let recorded = Tensor.record("gatedScan", inputs, outputs: [output, final]) { gradients in
    let found = try call.backward(
      chunks: chunks, doutput: gradients[0], dfinal: gradients[1], wantsGate: wantsGate)
    return [found.query, found.key, found.value, found.gate] + (call.rate == nil ? [] : [found.rate])
      + (call.weight == nil ? [] : [found.weight]) + (call.initial == nil ? [] : [found.initial])
  }
  return (recorded[0], recorded[1])
}

/// (batch, length, keyHeads, width) with each head repeated for the values' heads that share it.
private func repeatingHeads(_ x: Tensor, as value: Tensor) throws -> Tensor {
  guard x.rank == 4, value.rank == 4, x.shape[2] > 0, x.shape[2] < value.shape[2],
    value.shape[2].isMultiple(of: x.shape[2])
  else { return x }
  let (batch, length, keyHeads, width) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
  return try x.reshaped([batch, length, keyHeads, 1, width])
    .broadcast(to: [batch, length, keyHeads, value.shape[2] / keyHeads, width])
    .reshaped([batch, length, value.shape[2], width])
}

private struct GatedScanCall: Sendable {
  let query: Tensor
  let key: Tensor
  let value: Tensor
  let gate: Tensor
  let rate: Tensor?
  let weight: Tensor?
  let initial: Tensor?
  let resets: Tensor?
  let scale: Float

  struct Gradients {
    var query: Tensor?
    var key: Tensor?
    var value: Tensor?
    var gate: Tensor?
    var rate: Tensor?
    var weight: Tensor?
    var initial: Tensor?
  }

  init(
    query: Tensor, key: Tensor, value: Tensor, gate: Tensor, rate: Tensor?, weight: Tensor?, initial: Tensor?,
    resets: Tensor?, scale: Float
  ) throws {
    let tokens = Array(value.shape.dropLast())
    try require(
      query.rank == 4 && query.dtype.isFloatingPoint && key.shape == query.shape && key.dtype == query.dtype
        && value.rank == 4 && value.dtype == query.dtype && value.shape.prefix(2) == query.shape.prefix(2)
        && (value.shape[2] == query.shape[2]
          || query.shape[2] > 0 && value.shape[2] > 0 && value.shape[2].isMultiple(of: query.shape[2]))
        && gate.dtype == .float32 && (gate.shape == query.shape || gate.shape == tokens),
      "gatedScan",
      expected:
        "query and key (batch, length, heads or a divisor of them, keyWidth), value (batch, length, heads, valueWidth) of "
        + "one type, F32 gate (batch, length, heads[, keyWidth])",
      got: "\(query), \(key), \(value), \(gate)")
    try require(
      weight == nil || (weight?.shape == tokens && weight?.dtype == .float32 && gate.rank == 3 && rate == nil),
      "gatedScan", expected: "F32 weights of shape \(tokens), one decay a head and no rates",
      got: weight.map { "\($0)" } ?? "none")
    try require(
      rate == nil || (rate?.shape == tokens && rate?.dtype == .float32), "gatedScan",
      expected: "F32 rates of shape \(tokens)", got: rate.map { "\($0)" } ?? "none")
    let stateShape = [value.shape[0], value.shape[2], query.shape[3], value.shape[3]]
    try require(
      initial == nil || (initial?.shape == stateShape && initial?.dtype == .float32), "gatedScan",
      expected: "an F32 state of shape \(stateShape)", got: initial.map { "\($0)" } ?? "none")
    try require(
      resets == nil || (resets?.shape == Array(query.shape.prefix(2)) && resets?.dtype == .uint8), "gatedScan",
      expected: "U8 resets (batch, length)", got: resets.map { "\($0)" } ?? "none")
    self.query = try query.rowMajorFeatures()
    self.key = try key.rowMajorFeatures()
    self.value = try value.rowMajorFeatures()
    self.gate = gate.rank == 4 ? try gate.rowMajorFeatures() : gate.detached
    self.rate = rate?.detached
    self.weight = weight?.detached
    self.initial = try initial?.detached.contiguous()
    self.resets = try resets?.detached.contiguous()
    self.scale = scale
  }

  private var stateShape: [Int] { [value.shape[0], value.shape[2], query.shape[3], value.shape[3]] }

  private var shape: fm_gated_scan_shape {
    var shape = fm_gated_scan_shape()
    shape.type = query.kernelType
    shape.batch = Int64(query.shape[0])
    shape.length = Int64(query.shape[1])
    shape.heads = Int64(value.shape[2])
    shape.key_heads = Int64(query.shape[2])
    shape.key_width = Int64(query.shape[3])
    shape.value_width = Int64(value.shape[3])
    shape.query_stride = query.strides3
    shape.key_stride = key.strides3
    shape.value_stride = value.strides3
    shape.gate_stride = gate.strides3
    if let rate { shape.rate_stride = rate.strides3 }
    if let weight { shape.weight_stride = weight.strides3 }
    shape.vector_gate = gate.rank == 4 ? 1 : 0
    shape.scale = scale
    shape.resets = resets.map { UnsafePointer($0.bytePointer) }
    return shape
  }

  private var inputs: fm_gated_scan_inputs {
    fm_gated_scan_inputs(
      query: query.pointer, key: key.pointer, value: value.pointer, gate: gate.floatPointer, rate: rate?.floatPointer,
      weight: weight?.floatPointer, initial_state: initial?.floatPointer)
  }

  /// The recurrent form's operations: decay, outer product and read-out of a (keyWidth, valueWidth) state per token;
  /// the delta rule reads twice.
  private var flops: Int { (rate == nil ? 5 : 7) * value.count * query.shape[3] }
  private var bytes: Int { 2 * query.byteCount + 2 * value.byteCount + gate.byteCount + (weight?.byteCount ?? 0) }

  func forward(keepingChunks: Bool) throws -> (Tensor, Tensor, Tensor?) {
    let output = try Tensor(uninitialized: value.shape, value.dtype)
    let final = try Tensor(uninitialized: stateShape)
    if query.shape[1] == 0 { return (output, try initial ?? Tensor.zeros(stateShape), nil) }
    let chunkCount = (query.shape[1] + Int(FM_SCAN_CHUNK) - 1) / Int(FM_SCAN_CHUNK)
    let chunks =
      keepingChunks
      ? try Tensor(uninitialized: [query.shape[0], chunkCount] + stateShape.dropFirst()) : nil
    var (shape, inputs) = (shape, inputs)
    let status = fm_gated_scan(&shape, &inputs, output.pointer, final.floatPointer, chunks?.floatPointer)
    withExtendedLifetime(self) {}
    try require(status == 0, "gatedScan", expected: "scratch memory for a chunk", got: "none")
    Work.add(flops: flops, bytes: bytes)
    return (output, final, chunks)
  }

  func backward(chunks: Tensor?, doutput: Tensor?, dfinal: Tensor?, wantsGate: Bool) throws -> Gradients {
    guard let chunks else { return Gradients(initial: dfinal) }
    let dy = try doutput?.contiguous()
    let dstate = try dfinal?.contiguous()
    let result = Gradients(
      query: try Tensor(uninitialized: query.shape, query.dtype), key: try Tensor(uninitialized: key.shape, key.dtype),
      value: try Tensor(uninitialized: value.shape, value.dtype),
      gate: wantsGate ? try Tensor(uninitialized: gate.shape) : nil,
      rate: try rate.map { try Tensor(uninitialized: $0.shape) },
      weight: try weight.map { try Tensor(uninitialized: $0.shape) },
      initial: initial == nil ? nil : try Tensor(uninitialized: stateShape))
    var gradients = fm_gated_scan_gradients(
      query: result.query?.pointer, key: result.key?.pointer, value: result.value?.pointer,
      gate: result.gate?.floatPointer, rate: result.rate?.floatPointer, weight: result.weight?.floatPointer,
      initial_state: result.initial?.floatPointer)
    var (shape, inputs) = (shape, inputs)
    let status = fm_gated_scan_backward(
      &shape, &inputs, chunks.floatPointer, dy?.pointer, dstate?.floatPointer, &gradients)
    withExtendedLifetime((self, dy, dstate, chunks)) {}
    try require(status == 0, "gatedScan backward", expected: "scratch memory for a chunk", got: "none")
    Work.add(flops: 3 * flops, bytes: 2 * bytes)
    return result
  }
}

/// The same, one token after another in simple operations: the oracle of the fused form, derived from the equation alone.
package func gatedScanReference(
  query: Tensor, key: Tensor, value: Tensor, gate: Tensor, rate: Tensor? = nil, weight: Tensor? = nil, state: Tensor?,
  resets: Tensor? = nil, scale: Float
) throws -> (output: Tensor, state: Tensor) {
  let (batch, length, heads, keyWidth, valueWidth) = (
    query.shape[0], query.shape[1], value.shape[2], query.shape[3], value.shape[3]
  )
  let (query, key) = (try repeatingHeads(query, as: value), try repeatingHeads(key, as: value))
  var current = try state ?? Tensor.zeros([batch, heads, keyWidth, valueWidth])
  let starts = try resets?.cast(to: .float32)
  var outputs: [Tensor] = []
  func token(_ x: Tensor, _ index: Int) throws -> Tensor { try x.cast(to: .float32).select(index, axis: 1) }
  for index in 0..<length {
    if let starts {
      let keep = try 1 - starts.select(index, axis: 1).reshaped([batch, 1, 1, 1])
      current = try current * keep
    }
    let decay = try token(gate, index).exp()
    current = try current * (decay.rank == 3 ? decay.expanded(at: 3) : decay.reshaped([batch, heads, 1, 1]))
    var written = try token(value, index).expanded(at: 2)
    if let weight { written = try written * token(weight, index).reshaped([batch, heads, 1, 1]) }
    if let rate {
      let known = try matmul(token(key, index).expanded(at: 2), current)
      written = try (written - known) * token(rate, index).reshaped([batch, heads, 1, 1])
    }
    current = try current + matmul(token(key, index).expanded(at: 3), written)
    outputs.append(try matmul(token(query, index).expanded(at: 2), current).reshaped([batch, 1, heads, valueWidth]))
  }
  if outputs.isEmpty { return (try Tensor.zeros(value.shape, value.dtype), current) }
  return (try (Tensor.concatenated(outputs, axis: 1) * scale).cast(to: query.dtype), current)
}
