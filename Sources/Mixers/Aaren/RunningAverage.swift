import CFermataKernels
import FermataLayers
import FermataTensors

/// Running averages with exponential weights, in one pass:
///
///     L_t = log Σ_{i≤t} e^{s_i},   a_t = Σ_{i≤t} e^{s_i - L_t} v_i
///
/// scores s (batch, length, heads) f32; values v (batch, length, heads, width) of one floating type. What came before is a
/// normaliser L (batch, heads) and an average a (batch, heads, width), f32; -∞ and anything finite when nothing did.
/// resets u8 (batch, length) where both are emptied first; valid u8 (batch, length): where it is 0 a token weighs nothing.
/// Returns averages (batch, length, heads, width) of the values' type and the normaliser and average after the piece.
public func runningAverage(
  scores: Tensor, values: Tensor, normalizer: Tensor, average: Tensor, resets: Tensor? = nil, valid: Tensor? = nil
) throws -> (averages: Tensor, normalizer: Tensor, average: Tensor) {
  let call = try RunningAverageCall(
    scores: scores, values: values, normalizer: normalizer, average: average, resets: resets, valid: valid)
  let inputs = [scores, values, normalizer, average]
  let kept = try call.forward(keeping: inputs.contains(where: \.isTracked))
  let recorded = Tensor.record(
    "runningAverage", inputs, outputs: [kept.averages, kept.normalizer, kept.average]
  ) { try call.backward(kept, $0) }
  return (recorded[0], recorded[1], recorded[2])
}

private struct RunningAverageCall: Sendable {
  struct Kept: Sendable {
    var averages: Tensor
    var normalizer: Tensor
    var average: Tensor
    /// L_t for every token; nil when no gradient is wanted.
    var normalizers: Tensor?
  }

  let scores: Tensor
  let values: Tensor
  let normalizer: Tensor
  let average: Tensor
  let resets: Tensor?
  let valid: Tensor?

  init(scores: Tensor, values: Tensor, normalizer: Tensor, average: Tensor, resets: Tensor?, valid: Tensor?) throws {
    try require(
      values.rank == 4 && values.dtype.isFloatingPoint && scores.dtype == .float32
        && scores.shape == Array(values.shape.dropLast()), "runningAverage",
      expected: "F32 scores (batch, length, heads) and values (batch, length, heads, width)",
      got: "\(scores), \(values)")
    let shape = [values.shape[0], values.shape[2], values.shape[3]]
    try require(
      normalizer.shape == Array(shape.prefix(2)) && average.shape == shape && normalizer.dtype == .float32
        && average.dtype == .float32, "runningAverage",
      expected: "an F32 normaliser of shape \(shape.prefix(2)) and average of shape \(shape)",
      got: "\(normalizer), \(average)")
    for (name, flags) in [("resets", resets), ("valid", valid)] {
      try require(
        flags == nil || (flags?.shape == Array(values.shape.prefix(2)) && flags?.dtype == .uint8), "runningAverage",
        expected: "U8 \(name) (batch, length)", got: flags.map { "\($0)" } ?? "none")
    }
    self.scores = try scores.detached.contiguous()
    self.values = try values.detached.contiguous()
    self.normalizer = try normalizer.detached.contiguous()
    self.average = try average.detached.contiguous()
    self.resets = try resets?.detached.contiguous()
    self.valid = try valid?.detached.contiguous()
  }

  private var shape: fm_running_average_shape {
    fm_running_average_shape(
      type: values.kernelType, batch: Int64(values.shape[0]), length: Int64(values.shape[1]),
      heads: Int64(values.shape[2]), width: Int64(values.shape[3]),
      resets: resets.map { UnsafePointer($0.bytePointer) }, valid: valid.map { UnsafePointer($0.bytePointer) })
  }

  func forward(keeping: Bool) throws -> Kept {
    let kept = Kept(
      averages: try Tensor(uninitialized: values.shape, values.dtype), normalizer: try normalizer.copied(),
      average: try average.copied(), normalizers: keeping ? try Tensor(uninitialized: scores.shape) : nil)
    var shape = shape
    fm_running_average(
      &shape, scores.floatPointer, values.pointer, kept.normalizer.floatPointer, kept.average.floatPointer,
      kept.averages.pointer, kept.normalizers?.floatPointer)
    withExtendedLifetime(self) {}
    Work.add(flops: 3 * values.count + 20 * scores.count, bytes: 2 * values.byteCount + scores.byteCount)
    return kept
  }

  func backward(_ kept: Kept, _ gradients: [Tensor?]) throws -> [Tensor?] {
    guard let normalizers = kept.normalizers else { return [] }
    let daverages = try gradients[0]?.contiguous()
    let dnormalizer = try gradients[1]?.copied() ?? Tensor.zeros(normalizer.shape)
    let daverage = try gradients[2]?.copied() ?? Tensor.zeros(average.shape)
    let dscores = try Tensor(uninitialized: scores.shape)
    let dvalues = try Tensor(uninitialized: values.shape, values.dtype)
    var shape = shape
    fm_running_average_backward(
      &shape, scores.floatPointer, values.pointer, normalizer.floatPointer, average.floatPointer, kept.averages.pointer,
      normalizers.floatPointer, daverages?.pointer, dnormalizer.floatPointer, daverage.floatPointer,
      dscores.floatPointer, dvalues.pointer)
    withExtendedLifetime((self, kept, daverages)) {}
    Work.add(flops: 7 * values.count + 40 * scores.count, bytes: 5 * values.byteCount + 3 * scores.byteCount)
    return [dscores, dvalues, dnormalizer, daverage]
  }
}

extension Tensor {
  /// An own copy, for a kernel that changes it.
  fileprivate func copied() throws -> Tensor { try detached.compacted() }
}

/// The same by softmax attention over everything so far, token by token: the oracle of the fused form. What came before counts as
/// one more token, with its normaliser as score and its average as value.
package func runningAverageReference(
  scores: Tensor, values: Tensor, normalizer: Tensor, average: Tensor, resets: Tensor? = nil, valid: Tensor? = nil
) throws -> (averages: Tensor, normalizer: Tensor, average: Tensor) {
  let shape = values.shape
  let nothing = try Tensor(-.infinity)
  var seen = try normalizer.expanded(at: 1)
  var memory = try average.expanded(at: 1)
  var (total, mean) = (normalizer, average)
  var outputs: [Tensor] = []
  for index in 0..<shape[1] {
    if let start = try resets?.select(index, axis: 1).reshaped([shape[0], 1, 1]) {
      seen = try Tensor.selecting(start, nothing, seen)
    }
    var score = try scores.select(index, axis: 1).expanded(at: 1)
    if let shown = try valid?.select(index, axis: 1).reshaped([shape[0], 1, 1]) {
      score = try Tensor.selecting(shown, score, nothing)
    }
    seen = try Tensor.concatenated([seen, score], axis: 1)
    memory = try Tensor.concatenated(
      [memory, values.cast(to: .float32).slice(index..<index + 1, axis: 1)], axis: 1)
    // Where nothing was seen yet, e^{-∞ - 0} leaves zeros and log 0 the empty normaliser.
    let greatest = try seen.detached.maximum(axis: 1, keepingAxis: true)
    let largest = try Tensor.selecting(greatest .== nothing, Tensor(0), greatest)
    let weights = try (seen - largest).exp()
    let sum = try weights.sum(axis: 1)
    total = try sum.log() + largest.select(0, axis: 1)
    let divisor = try Tensor.selecting(sum .== Tensor(0), Tensor(1), sum)
    mean = try (weights.expanded(at: 3) * memory).sum(axis: 1) / divisor.expanded(at: 2)
    outputs.append(try mean.expanded(at: 1))
  }
  if outputs.isEmpty { return (try Tensor.zeros(shape, values.dtype), normalizer, average) }
  return (try Tensor.concatenated(outputs, axis: 1).cast(to: values.dtype), total, mean)
}
