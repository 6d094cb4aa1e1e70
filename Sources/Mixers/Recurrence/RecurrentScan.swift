import CFermataKernels
import FermataLayers
import FermataTensors

/// A recurrence over inputs that are projected already, in FlashRNN's manner (Pöppel et al. 2024): the recurrent weights are
/// packed once and stay in the cache over all steps.
///
///     s_t = R h_{t-1} + b,   (h_t, other states) = cell(x_t, s_t, states before)
///
/// projections x (batch, length, gates · width); recurrent R (gates · width, width / heads), block-diagonal: each unit reads the
/// hidden states of its own head; bias b (gates · width) f32 or nil; states each (batch, width) f32;
/// resets u8 (batch, length) where the states are emptied first; valid u8 (batch, length): where it is 0, states stay as they
/// are and the output is the hidden state carried over.
public func recurrentScan(
  _ cell: RecurrentCell, projections: Tensor, recurrent: Tensor, bias: Tensor? = nil, states: [Tensor],
  resets: Tensor? = nil, valid: Tensor? = nil
) throws -> RecurrentResult {
  let call = try RecurrentCall(
    cell, projections, recurrent, bias: bias, states: states, resets: resets, valid: valid)
  let inputs = [projections, recurrent] + states + (bias.map { [$0] } ?? [])
  let kept = try call.forward(keeping: inputs.contains(where: \.isTracked))
  let recurrentType = recurrent.dtype
  let recorded = Tensor.record("recurrentScan", inputs, outputs: [kept.result.output] + kept.result.states) {
    try call.backward(kept, $0, recurrentType: recurrentType)
  }
  return RecurrentResult(output: recorded[0], states: Array(recorded.dropFirst()))
}

private struct RecurrentCall: Sendable {
  struct Kept: Sendable {
    var result: RecurrentResult
    /// (batch, length, FM_RECURRENCE_KEPT, width); nil when no gradient is wanted or there is no token.
    var steps: Tensor?
  }

  let cell: RecurrentCell
  let projections: Tensor
  let recurrent: Tensor
  let bias: Tensor?
  let states: [Tensor]
  let resets: Tensor?
  let valid: Tensor?
  let batch: Int
  let length: Int
  let width: Int
  let heads: Int

  init(
    _ cell: RecurrentCell, _ projections: Tensor, _ recurrent: Tensor, bias: Tensor?, states: [Tensor], resets: Tensor?,
    valid: Tensor?
  ) throws {
    try require(
      projections.rank == 3 && projections.dtype.isFloatingPoint && recurrent.rank == 2
        && projections.shape[2] == recurrent.shape[0] && recurrent.shape[0] % cell.gates == 0
        && recurrent.shape[1] > 0 && (recurrent.shape[0] / cell.gates) % recurrent.shape[1] == 0, "recurrentScan",
      expected: "projections (batch, length, \(cell.gates) width) and recurrent (\(cell.gates) width, width / heads)",
      got: "\(projections), \(recurrent)")
    let stateShape = [projections.shape[0], recurrent.shape[0] / cell.gates]
    try require(
      states.count == cell.states.count && states.allSatisfy { $0.shape == stateShape && $0.dtype == .float32 },
      "recurrentScan", expected: "F32 states \(cell.states) of shape \(stateShape)", got: "\(states)")
    try require(
      bias == nil || (bias?.shape == [recurrent.shape[0]] && bias?.dtype == .float32), "recurrentScan",
      expected: "an F32 bias of shape [\(recurrent.shape[0])]", got: bias.map { "\($0)" } ?? "none")
    for (name, flags) in [("resets", resets), ("valid", valid)] {
      try require(
        flags == nil || (flags?.shape == Array(projections.shape.prefix(2)) && flags?.dtype == .uint8), "recurrentScan",
        expected: "U8 \(name) (batch, length)", got: flags.map { "\($0)" } ?? "none")
    }
    self.cell = cell
    self.projections = try projections.detached.contiguous()
    self.recurrent = try recurrent.detached.cast(to: projections.dtype).contiguous()
    self.bias = try bias?.detached.contiguous()
    self.states = try states.map { try $0.detached.contiguous() }
    self.resets = try resets?.detached.contiguous()
    self.valid = try valid?.detached.contiguous()
    (batch, length, width) = (projections.shape[0], projections.shape[1], stateShape[1])
    heads = width / recurrent.shape[1]
  }

  private var shape: fm_recurrence_shape {
    fm_recurrence_shape(
      cell: cell.kernel, type: projections.kernelType, batch: Int64(batch), length: Int64(length), width: Int64(width),
      heads: Int64(heads), resets: resets.map { UnsafePointer($0.bytePointer) },
      valid: valid.map { UnsafePointer($0.bytePointer) })
  }

  /// The product with R, and about eight operations a gate.
  private var flops: Int { batch * length * width * cell.gates * (2 * width / heads + 8) }

  func forward(keeping: Bool) throws -> Kept {
    let output = try Tensor(uninitialized: [batch, length, width], projections.dtype)
    if length == 0 { return Kept(result: RecurrentResult(output: output, states: states)) }
    let final = try states.map { try Tensor(uninitialized: $0.shape) }
    let steps = keeping ? try Tensor(uninitialized: [batch, length, Int(FM_RECURRENCE_KEPT), width]) : nil
    var shape = shape
    let status = fm_recurrence(
      &shape, projections.pointer, recurrent.pointer, bias?.floatPointer, states.map { UnsafePointer($0.floatPointer) },
      output.pointer, final.map { $0.floatPointer }, steps?.floatPointer)
    withExtendedLifetime(self) {}
    try require(status == 0, "recurrentScan", expected: "scratch memory for packed weights", got: "none")
    Work.add(flops: flops, bytes: projections.byteCount + output.byteCount + recurrent.byteCount * length)
    return Kept(result: RecurrentResult(output: output, states: final), steps: steps)
  }

  func backward(_ kept: Kept, _ gradients: [Tensor?], recurrentType: DType) throws -> [Tensor?] {
    guard let steps = kept.steps else { return [nil, nil] + gradients.dropFirst() }
    let doutput = try gradients[0]?.contiguous()
    let dfinal = try gradients.dropFirst().map { try $0?.contiguous() }
    let dprojections = try Tensor(uninitialized: projections.shape, projections.dtype)
    let dsums = cell.readsSum ? dprojections : try Tensor(uninitialized: projections.shape, projections.dtype)
    let dinitial = try states.map { try Tensor(uninitialized: $0.shape) }
    var shape = shape
    let status = fm_recurrence_backward(
      &shape, recurrent.pointer, steps.floatPointer, doutput?.pointer,
      dfinal.map { $0.map { UnsafePointer($0.floatPointer) } }, dprojections.pointer,
      cell.readsSum ? nil : dsums.pointer, dinitial.map { $0.floatPointer })
    withExtendedLifetime((self, steps, doutput, dfinal)) {}
    try require(status == 0, "recurrentScan backward", expected: "scratch memory for packed weights", got: "none")
    Work.add(flops: 2 * flops, bytes: 2 * steps.byteCount + dprojections.byteCount)
    let drecurrent = try recurrentGradient(dsums, hidden: kept.result.output).cast(to: recurrentType)
    let dbias = try bias.map { _ in try dsums.cast(to: .float32).reshaped([-1, cell.gates * width]).sum(axis: 0) }
    return [dprojections, drecurrent] + dinitial + (dbias.map { [$0] } ?? [])
  }

  /// dR = Σ_t ds_tᵀ h_{t-1}, layer-sized products over all tokens, one for each head.
  private func recurrentGradient(_ dsums: Tensor, hidden: Tensor) throws -> Tensor {
    let headWidth = width / heads
    let previous = try previousHidden(hidden).reshaped([-1, heads, headWidth]).transposed(0, 1)
    let rows = try dsums.reshaped([-1, cell.gates, heads, headWidth])
    if heads == 1 {
      return try product(
        rows.reshaped([-1, cell.gates * width]).transposed(0, 1), previous.reshaped([-1, width]), output: .float32)
    }
    let byHead = try rows.transposed([2, 1, 3, 0]).reshaped([heads, cell.gates * headWidth, -1])
    return try product(byHead, previous, output: .float32).reshaped([heads, cell.gates, headWidth, headWidth])
      .transposed(0, 1).reshaped(recurrent.shape)
  }

  /// h_{t-1} for every t: the outputs one step later, the initial state first, zeros at resets.
  private func previousHidden(_ output: Tensor) throws -> Tensor {
    let first = try states[0].cast(to: output.dtype).expanded(at: 1)
    let shifted = try Tensor.concatenated([first, output.slice(0..<length - 1, axis: 1)], axis: 1)
    guard let resets else { return shifted }
    return try Tensor.selecting(resets.expanded(at: 2), Tensor.zeros([], output.dtype), shifted)
  }
}
