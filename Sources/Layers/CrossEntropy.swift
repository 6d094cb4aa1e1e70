import CFermataKernels
import FermataTensors

/// What the fused head returns.
public struct CrossEntropy: Sendable {
  /// scale · Σ weight · loss, differentiable in hidden states and head weight.
  public var total: Tensor
  /// Loss of each row in nats, f32, no history; 0 for ignored rows.
  public var losses: Tensor
}

/// Cross-entropy straight from hidden states: loss_i = log Σ_v e^{h_i·W_v} − h_i·W_{target_i}.
///
/// Logits exist only for a block of rows at a time; where gradients are wanted they are taken from the block at once
/// (as in Wijmans et al. 2024 and Hsu et al. 2024), so that memory does not grow with rows × vocabulary.
/// hidden (rows, width), weight (vocabulary, width), targets (rows) I32 with negative ones ignored,
/// rowWeights (rows) f32 or nil.
public func crossEntropy(
  hidden: Tensor, weight: Tensor, targets: Tensor, rowWeights: Tensor? = nil, scale: Float
) throws -> CrossEntropy {
  try require(
    hidden.rank == 2 && weight.rank == 2 && hidden.shape[1] == weight.shape[1] && targets.shape == [hidden.shape[0]]
      && targets.dtype == .int32,
    "crossEntropy", expected: "hidden (rows, width), weight (vocabulary, width), I32 targets (rows)",
    got: "\(hidden), \(weight), \(targets)")
  let (rows, vocabulary) = (hidden.shape[0], weight.shape[0])
  try require(vocabulary > 0, "crossEntropy", expected: "a vocabulary of at least 1", got: "\(weight)")
  try require(
    rowWeights == nil || (rowWeights?.shape == [rows] && rowWeights?.dtype == .float32), "crossEntropy",
    expected: "F32 row weights (rows)", got: rowWeights.map { "\($0)" } ?? "none")
  if let highest = try targets.values(as: Int32.self).max() {
    try require(
      highest < vocabulary, "crossEntropy", expected: "targets below the vocabulary's \(vocabulary)", got: "\(highest)")
  }
  let blockRows = max(1, min(rows, max(blockBytes / (4 * vocabulary), min(64, 4 * blockBytes / (4 * vocabulary)))))
  // A table that is larger than a block of logits is not packed: memory would follow the vocabulary again.
  let isSmall = weight.shape[1] <= blockRows
  var head = FusedHead(
    hidden: try hidden.detached.contiguous(),
    weight: try ProductWeight(weight, rows: isSmall ? blockRows : 0, dtype: hidden.dtype),
    blockRows: blockRows, targets: try targets.contiguous(), rowWeights: try rowWeights?.detached.contiguous(),
    scale: scale,
    losses: try Tensor(uninitialized: [rows]))
  if hidden.isTracked { head.dhidden = try Tensor.zeros(hidden.shape, hidden.dtype) }
  if weight.isTracked { head.dweight = try Tensor.zeros(weight.shape) }
  try head.run()

  let weighted = try rowWeights.map { try head.losses * $0.detached } ?? head.losses
  let total = try weighted.sum() * scale
  let (dhidden, dweight, weightType) = (head.dhidden, head.dweight, weight.dtype)
  let recorded = Tensor.record("crossEntropy", [hidden, weight], output: total) { gradient in
    let factor = try gradient.item()
    return [
      try dhidden.map { factor == 1 ? $0 : try $0 * factor },
      try dweight.map { try (factor == 1 ? $0 : $0 * factor).cast(to: weightType) },
    ]
  }
  return CrossEntropy(total: recorded, losses: head.losses)
}

/// Bytes that one block of logits may take; up to four times that for 64 rows, because each block reads the whole table and
/// adds to its whole gradient.
private let blockBytes = 8 << 20

private struct FusedHead {
  let hidden: Tensor
  let weight: ProductWeight
  let blockRows: Int
  let targets: Tensor
  let rowWeights: Tensor?
  let scale: Float
  let losses: Tensor
  var dhidden: Tensor?
  var dweight: Tensor?

  mutating func run() throws {
    let rows = hidden.shape[0]
    for start in stride(from: 0, to: rows, by: blockRows) { try block(start..<min(start + blockRows, rows)) }
  }

  private func block(_ range: Range<Int>) throws {
    // A scale of zero, which the kernel takes for "no gradient", leaves the gradients at zero.
    let wantsGradient = (dhidden != nil || dweight != nil) && scale != 0
    let part = try hidden.slice(range, axis: 0)
    let logits = try weight.forward(part, output: .float32)
    var gradient = logits
    let rounds = wantsGradient && hidden.dtype == .bfloat16
    if rounds { gradient = try Tensor(uninitialized: logits.shape, .bfloat16) }
    fm_cross_entropy_rows(
      logits.floatPointer, targets.intPointer + range.lowerBound,
      rowWeights.map { UnsafePointer($0.floatPointer + range.lowerBound) },
      wantsGradient ? scale : 0, losses.floatPointer + range.lowerBound,
      rounds ? gradient.pointer.assumingMemoryBound(to: UInt16.self) : nil, Int64(range.count), Int64(logits.shape[1]))
    Work.add(flops: 5 * logits.count, bytes: 3 * logits.byteCount)
    guard wantsGradient else { return }
    if let dhidden {
      let slice = try dhidden.slice(range, axis: 0)
      try slice.assign(weight.backward(gradient, output: hidden.dtype))
    }
    if let dweight { try dweight.accumulateProduct(gradient.transposed(0, 1), part) }
  }
}

/// The same in simple operations: the oracle of the fused form.
package func crossEntropyReference(hidden: Tensor, weight: Tensor, targets: Tensor, scale: Float) throws -> Tensor {
  let logits = try matmul(hidden.cast(to: .float32), weight.cast(to: .float32).transposed(0, 1)).logSoftmax()
  let ids = try targets.values(as: Int32.self)
  let vocabulary = weight.shape[0]
  var picks = [Float](repeating: 0, count: ids.count * vocabulary)
  for (row, id) in ids.enumerated() where id >= 0 { picks[row * vocabulary + Int(id)] = -scale }
  return try (logits * Tensor(picks, shape: [ids.count, vocabulary])).sum()
}
