import CFermataKernels
import FermataTensors

/// What differs between recurrences: how many gates and states there are, and what one step does to them.
///
/// A step sees x_t, the input's part of the gates, and s_t = R h_{t-1} + b, the recurrent part, and the states before it.
/// `LSTM`, `GRU` and `SLSTM` each define theirs; `recurrentScan` runs any of them fused.
public struct RecurrentCell: Sendable {
  /// Blocks of `width` in projections and recurrent weights.
  public let gates: Int
  /// Names of the states, each (batch, width) in f32; the hidden state, which is also the output, comes first.
  public let states: [String]
  /// What the states hold before a document's first token.
  public let empty: [Float]
  /// Whether a step reads x_t and s_t only through their sum, so that both have the same gradient.
  let readsSum: Bool
  /// The cell in the kernel's table.
  let kernel: fm_cell
  /// The step in simple operations, from the equation: gates of x and s, and states, each (batch, width).
  let step: @Sendable (_ x: [Tensor], _ sums: [Tensor], _ states: [Tensor]) throws -> [Tensor]

  /// The states before the first token.
  func emptyStates(batch: Int, width: Int) throws -> [Tensor] {
    try empty.map { try Tensor.full([batch, width], Double($0)) }
  }
}

/// What a recurrence returns: outputs (batch, length, width) and the final states, each (batch, width) in f32.
public struct RecurrentResult: Sendable {
  public var output: Tensor
  public var states: [Tensor]
}

/// The same as `recurrentScan`, one token after another in simple operations: the oracle of the fused form.
package func recurrentReference(
  _ cell: RecurrentCell, projections: Tensor, recurrent: Tensor, bias: Tensor? = nil, states: [Tensor],
  resets: Tensor? = nil, valid: Tensor? = nil
) throws -> RecurrentResult {
  let (batch, length, width) = (projections.shape[0], projections.shape[1], projections.shape[2] / cell.gates)
  let headWidth = recurrent.shape[1]
  let heads = width / headWidth
  // R as (heads, head width, gates · head width), to be multiplied from the left by h.
  let matrix = try recurrent.cast(to: .float32).reshaped([cell.gates, heads, headWidth, headWidth])
    .transposed([1, 3, 0, 2]).reshaped([heads, headWidth, cell.gates * headWidth])
  let wide = try projections.cast(to: .float32).reshaped([batch, length, cell.gates, width])
  let fresh = try cell.emptyStates(batch: 1, width: 1)
  var current = states
  var outputs: [Tensor] = []
  for index in 0..<length {
    if let start = try resets?.select(index, axis: 1).expanded(at: 1) {
      current = try zip(current, fresh).map { try Tensor.selecting(start, $1, $0) }
    }
    let byHead = try current[0].reshaped([batch, heads, headWidth]).transposed(0, 1)
    var sums = try matmul(byHead, matrix).reshaped([heads, batch, cell.gates, headWidth]).transposed([1, 2, 0, 3])
      .reshaped([batch, cell.gates, width])
    if let bias { sums = try sums + bias.reshaped([cell.gates, width]) }
    let x = try wide.select(index, axis: 1)
    var next = try cell.step(
      (0..<cell.gates).map { try x.select($0, axis: 1) }, (0..<cell.gates).map { try sums.select($0, axis: 1) }, current
    )
    if let shown = try valid?.select(index, axis: 1).expanded(at: 1) {
      next = try zip(next, current).map { try Tensor.selecting(shown, $0, $1) }
    }
    current = next
    outputs.append(try current[0].expanded(at: 1))
  }
  let output = outputs.isEmpty ? try Tensor.zeros([batch, 0, width]) : try Tensor.concatenated(outputs, axis: 1)
  return RecurrentResult(output: try output.cast(to: projections.dtype), states: current)
}
