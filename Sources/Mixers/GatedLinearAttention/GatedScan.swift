import CFermataKernels
import FermataLayers
import FermataTensors

/// The recurrence of gated linear attention, in chunks:
///
///     S_t = diag(e^{g_t}) S_{t-1} + k_tᵀ v_t,   o_t = scale · q_t S_t
///
/// query, key (batch, length, heads, keyWidth), value (batch, length, heads, valueWidth) of one floating type;
/// gate, the logarithm of the decay, f32 and ≤ 0: (batch, length, heads, keyWidth) as in GLA (Yang et al. 2024), or
/// (batch, length, heads) as in Mamba-2 (Dao & Gu 2024); state (batch, heads, keyWidth, valueWidth) f32, nil for zeros;
/// resets u8 (batch, length) where the state is zeroed first. Returns outputs (batch, length, heads, valueWidth) and the state.
public func gatedScan(
  query: Tensor, key: Tensor, value: Tensor, gate: Tensor, state: Tensor?, resets: Tensor? = nil, scale: Float
) throws -> (output: Tensor, state: Tensor) {
  let call = try GatedScanCall(
    query: query, key: key, value: value, gate: gate, initial: state, resets: resets, scale: scale)
  let inputs = [query, key, value, gate] + (state.map { [$0] } ?? [])
  let (output, final, chunks) = try call.forward(keepingChunks: inputs.contains(where: \.isTracked))
  let recorded = Tensor.record("gatedScan", inputs, outputs: [output, final]) { gradients in
    try call.backward(chunks: chunks, doutput: gradients[0], dfinal: gradients[1])
  }
  return (recorded[0], recorded[1])
}

private struct GatedScanCall: Sendable {
  let query: Tensor
  let key: Tensor
  let value: Tensor
  let gate: Tensor
  let initial: Tensor?
  let resets: Tensor?
  let scale: Float

  init(query: Tensor, key: Tensor, value: Tensor, gate: Tensor, initial: Tensor?, resets: Tensor?, scale: Float) throws
  {
    try require(
      query.rank == 4 && query.dtype.isFloatingPoint && key.shape == query.shape && key.dtype == query.dtype
        && value.rank == 4 && value.dtype == query.dtype && value.shape.dropLast() == query.shape.dropLast()
        && gate.dtype == .float32 && (gate.shape == query.shape || gate.shape == Array(query.shape.dropLast())),
      "gatedScan",
      expected:
        "query and key (batch, length, heads, keyWidth), value of one type, F32 gate (batch, length, heads[, keyWidth])",
      got: "\(query), \(key), \(value), \(gate)")
    let stateShape = [query.shape[0], query.shape[2], query.shape[3], value.shape[3]]
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
    self.initial = try initial?.detached.contiguous()
    self.resets = try resets?.detached.contiguous()
    self.scale = scale
  }

  private var stateShape: [Int] { [query.shape[0], query.shape[2], query.shape[3], value.shape[3]] }

  private var shape: fm_gated_scan_shape {
    var shape = fm_gated_scan_shape()
    shape.type = query.kernelType
    shape.batch = Int64(query.shape[0])
    shape.length = Int64(query.shape[1])
    shape.heads = Int64(query.shape[2])
    shape.key_width = Int64(query.shape[3])
    shape.value_width = Int64(value.shape[3])
    shape.query_stride = query.strides3
    shape.key_stride = key.strides3
    shape.value_stride = value.strides3
    shape.gate_stride = gate.strides3
    shape.vector_gate = gate.rank == 4 ? 1 : 0
    shape.scale = scale
    shape.resets = resets.map { UnsafePointer($0.bytePointer) }
    return shape
  }

  /// The recurrent form's operations: decay, outer product and read-out of a (keyWidth, valueWidth) state per token.
  private var flops: Int { 5 * query.count * value.shape[3] }
  private var bytes: Int { 2 * query.byteCount + 2 * value.byteCount + gate.byteCount }

  func forward(keepingChunks: Bool) throws -> (Tensor, Tensor, Tensor?) {
    let output = try Tensor(uninitialized: value.shape, value.dtype)
    let final = try Tensor(uninitialized: stateShape)
    if query.shape[1] == 0 { return (output, try initial ?? Tensor.zeros(stateShape), nil) }
    let chunkCount = (query.shape[1] + Int(FM_SCAN_CHUNK) - 1) / Int(FM_SCAN_CHUNK)
    let chunks =
      keepingChunks
      ? try Tensor(uninitialized: [query.shape[0], chunkCount] + stateShape.dropFirst()) : nil
    var shape = shape
    let status = fm_gated_scan(
      &shape, query.pointer, key.pointer, value.pointer, gate.floatPointer, initial?.floatPointer, output.pointer,
      final.floatPointer, chunks?.floatPointer)
    withExtendedLifetime(self) {}
    try require(status == 0, "gatedScan", expected: "scratch memory for a chunk", got: "none")
    Work.add(flops: flops, bytes: bytes)
    return (output, final, chunks)
  }

  func backward(chunks: Tensor?, doutput: Tensor?, dfinal: Tensor?) throws -> [Tensor?] {
    guard let chunks else { return [nil, nil, nil, nil, dfinal] }
    let dy = try doutput?.contiguous()
    let dstate = try dfinal?.contiguous()
    let dquery = try Tensor(uninitialized: query.shape, query.dtype)
    let dkey = try Tensor(uninitialized: key.shape, key.dtype)
    let dvalue = try Tensor(uninitialized: value.shape, value.dtype)
    let dgate = try Tensor(uninitialized: gate.shape)
    let dinitial = initial == nil ? nil : try Tensor(uninitialized: stateShape)
    var shape = shape
    let status = fm_gated_scan_backward(
      &shape, query.pointer, key.pointer, value.pointer, gate.floatPointer, initial?.floatPointer, chunks.floatPointer,
      dy?.pointer, dstate?.floatPointer, dquery.pointer, dkey.pointer, dvalue.pointer, dgate.floatPointer,
      dinitial?.floatPointer)
    withExtendedLifetime((self, dy, dstate, chunks)) {}
    try require(status == 0, "gatedScan backward", expected: "scratch memory for a chunk", got: "none")
    Work.add(flops: 3 * flops, bytes: 2 * bytes)
    return [dquery, dkey, dvalue, dgate, dinitial]
  }
}

/// The same, one token after another in simple operations: the oracle of the fused form, derived from the equation alone.
package func gatedScanReference(
  query: Tensor, key: Tensor, value: Tensor, gate: Tensor, state: Tensor?, resets: Tensor? = nil, scale: Float
) throws -> (output: Tensor, state: Tensor) {
  let (batch, length, heads, keyWidth, valueWidth) = (
    query.shape[0], query.shape[1], query.shape[2], query.shape[3], value.shape[3]
  )
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
    let column = try decay.rank == 3 ? decay.expanded(at: 3) : decay.reshaped([batch, heads, 1, 1])
    let update = try matmul(token(key, index).expanded(at: 3), token(value, index).expanded(at: 2))
    current = try current * column + update
    outputs.append(try matmul(token(query, index).expanded(at: 2), current).reshaped([batch, 1, heads, valueWidth]))
  }
  if outputs.isEmpty { return (try Tensor.zeros(value.shape, value.dtype), current) }
  return (try (Tensor.concatenated(outputs, axis: 1) * scale).cast(to: query.dtype), current)
}
