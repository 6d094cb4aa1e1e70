import CFermataKernels
import FermataLayers
import FermataTensors

/// What an LSTM's recurrence returns: outputs (batch, length, width) and the final hidden and cell states (batch, width), f32.
public struct LSTMResult: Sendable {
  public var output: Tensor
  public var hidden: Tensor
  public var cell: Tensor
}

/// LSTM's recurrence (Hochreiter & Schmidhuber 1997; Gers et al. 2000) over inputs that are projected already:
///
///     (i, f, g, o) = x_t + h_{t-1} Rᵀ,  c_t = σ(f) c_{t-1} + σ(i) tanh(g),  h_t = σ(o) tanh(c_t)
///
/// projections (batch, length, 4 width), recurrent (4 width, width), hidden and cell (batch, width) f32,
/// resets u8 (batch, length) where h and c are zeroed first.
public func lstmScan(
  projections: Tensor, recurrent: Tensor, hidden: Tensor, cell: Tensor, resets: Tensor? = nil
) throws -> LSTMResult {
  let call = try LSTMCall(projections, recurrent, hidden: hidden, cell: cell, resets: resets)
  let inputs = [projections, recurrent, hidden, cell]
  let kept = try call.forward(keeping: inputs.contains(where: \.isTracked))
  let outputs = [kept.result.output, kept.result.hidden, kept.result.cell]
  let recurrentType = recurrent.dtype
  let recorded = Tensor.record("lstmScan", inputs, outputs: outputs) { gradients in
    try call.backward(kept, gradients, recurrentType: recurrentType)
  }
  return LSTMResult(output: recorded[0], hidden: recorded[1], cell: recorded[2])
}

private struct LSTMCall: Sendable {
  struct Kept: Sendable {
    var result: LSTMResult
    var gates: Tensor?
    var cells: Tensor?
  }

  let projections: Tensor
  let recurrent: Tensor
  let hidden: Tensor
  let cell: Tensor
  let resets: Tensor?
  let batch: Int
  let length: Int
  let width: Int

  init(_ projections: Tensor, _ recurrent: Tensor, hidden: Tensor, cell: Tensor, resets: Tensor?) throws {
    try require(
      projections.rank == 3 && projections.dtype.isFloatingPoint && recurrent.rank == 2
        && recurrent.shape[0] == 4 * recurrent.shape[1] && projections.shape[2] == recurrent.shape[0]
        && hidden.shape == [projections.shape[0], recurrent.shape[1]] && cell.shape == hidden.shape
        && hidden.dtype == .float32 && cell.dtype == .float32,
      "lstmScan",
      expected: "projections (batch, length, 4 width), recurrent (4 width, width), F32 hidden and cell (batch, width)",
      got: "\(projections), \(recurrent), \(hidden), \(cell)")
    try require(
      resets == nil || (resets?.shape == Array(projections.shape.prefix(2)) && resets?.dtype == .uint8), "lstmScan",
      expected: "U8 resets (batch, length)", got: resets.map { "\($0)" } ?? "none")
    self.projections = try projections.detached.contiguous()
    self.recurrent = try recurrent.detached.cast(to: projections.dtype).contiguous()
    self.hidden = try hidden.detached.contiguous()
    self.cell = try cell.detached.contiguous()
    self.resets = try resets?.detached.contiguous()
    (batch, length, width) = (projections.shape[0], projections.shape[1], recurrent.shape[1])
  }

  private var flops: Int { batch * length * width * (8 * width + 30) }

  func forward(keeping: Bool) throws -> Kept {
    let output = try Tensor(uninitialized: [batch, length, width], projections.dtype)
    if length == 0 { return Kept(result: LSTMResult(output: output, hidden: hidden, cell: cell)) }
    let finalHidden = try Tensor(uninitialized: [batch, width])
    let finalCell = try Tensor(uninitialized: [batch, width])
    let gates = keeping ? try Tensor(uninitialized: [batch, length, 4 * width]) : nil
    let cells = keeping ? try Tensor(uninitialized: [batch, length, width]) : nil
    let status = fm_lstm(
      projections.kernelType, projections.pointer, recurrent.pointer, hidden.floatPointer, cell.floatPointer,
      resets.map { UnsafePointer($0.bytePointer) }, output.pointer, finalHidden.floatPointer, finalCell.floatPointer,
      gates?.floatPointer, cells?.floatPointer, Int64(batch), Int64(length), Int64(width))
    withExtendedLifetime(self) {}
    try require(status == 0, "lstmScan", expected: "scratch memory for packed weights", got: "none")
    Work.add(flops: flops, bytes: projections.byteCount + output.byteCount + recurrent.byteCount * length)
    return Kept(result: LSTMResult(output: output, hidden: finalHidden, cell: finalCell), gates: gates, cells: cells)
  }

  func backward(_ kept: Kept, _ gradients: [Tensor?], recurrentType: DType) throws -> [Tensor?] {
    guard let gates = kept.gates, let cells = kept.cells else { return [nil, nil, gradients[1], gradients[2]] }
    let doutput = try gradients[0]?.contiguous()
    let dfinalHidden = try gradients[1]?.contiguous()
    let dfinalCell = try gradients[2]?.contiguous()
    let dprojections = try Tensor(uninitialized: projections.shape, projections.dtype)
    let dhidden = try Tensor(uninitialized: [batch, width])
    let dcell = try Tensor(uninitialized: [batch, width])
    let status = fm_lstm_backward(
      projections.kernelType, recurrent.pointer, cell.floatPointer, resets.map { UnsafePointer($0.bytePointer) },
      gates.floatPointer, cells.floatPointer, doutput?.pointer, dfinalHidden?.floatPointer, dfinalCell?.floatPointer,
      dprojections.pointer, dhidden.floatPointer, dcell.floatPointer, Int64(batch), Int64(length), Int64(width))
    withExtendedLifetime((self, gates, cells, doutput, dfinalHidden, dfinalCell)) {}
    try require(status == 0, "lstmScan backward", expected: "scratch memory for packed weights", got: "none")
    Work.add(flops: 2 * flops, bytes: 2 * gates.byteCount + dprojections.byteCount)
    // dR = Σ_t dgates_tᵀ h_{t-1}, one layer-sized product over all tokens; before the first token and after a reset h is what it was set to.
    let previous = try previousHidden(kept.result.output)
    let rows = try dprojections.reshaped([-1, 4 * width])
    let drecurrent = try product(rows.transposed(0, 1), previous.reshaped([-1, width]), output: .float32)
    return [dprojections, try drecurrent.cast(to: recurrentType), dhidden, dcell]
  }

  /// h_{t-1} for every t: the outputs one step later, the initial state first, zeros at resets.
  private func previousHidden(_ output: Tensor) throws -> Tensor {
    let first = try hidden.cast(to: output.dtype).expanded(at: 1)
    let shifted = try Tensor.concatenated([first, output.slice(0..<length - 1, axis: 1)], axis: 1)
    guard let resets else { return shifted }
    return try Tensor.selecting(resets.expanded(at: 2), Tensor.zeros([], output.dtype), shifted)
  }
}

/// The same, one token after another in simple operations: the oracle of the fused form, and the way through padding
/// (valid u8 (batch, length)), which leaves the state as it is.
package func lstmReference(
  projections: Tensor, recurrent: Tensor, hidden: Tensor, cell: Tensor, resets: Tensor? = nil, valid: Tensor? = nil
) throws -> LSTMResult {
  let (batch, length, width) = (projections.shape[0], projections.shape[1], recurrent.shape[1])
  let matrix = try recurrent.cast(to: .float32).transposed(0, 1)
  var (h, c) = (hidden, cell)
  var outputs: [Tensor] = []
  for index in 0..<length {
    if let resets {
      let keep = try 1 - resets.select(index, axis: 1).cast(to: .float32).expanded(at: 1)
      (h, c) = (try h * keep, try c * keep)
    }
    let gates = try projections.cast(to: .float32).select(index, axis: 1) + matmul(h, matrix)
    let parts = try gates.split(sizes: [width, width, width, width], axis: 1)
    let nextCell = try parts[1].sigmoid() * c + parts[0].sigmoid() * parts[2].tanh()
    let nextHidden = try parts[3].sigmoid() * nextCell.tanh()
    if let valid {
      let shown = try valid.select(index, axis: 1).expanded(at: 1)
      (h, c) = (try Tensor.selecting(shown, nextHidden, h), try Tensor.selecting(shown, nextCell, c))
    } else {
      (h, c) = (nextHidden, nextCell)
    }
    outputs.append(try nextHidden.reshaped([batch, 1, width]))
  }
  let output =
    outputs.isEmpty ? try Tensor.zeros([batch, 0, width]) : try Tensor.concatenated(outputs, axis: 1)
  return LSTMResult(output: try output.cast(to: projections.dtype), hidden: h, cell: c)
}
