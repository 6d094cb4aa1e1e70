import CFermataKernels
import FermataLayers
import FermataTensors

/// Exact attention in tiles (Dao et al. 2022; Dao 2023): softmax(scale · q kᵀ + mask) v, never the (query, key) matrix.
///
/// query (batch, queries, heads, width), key (batch, keys, keyValueHeads, width), value (batch, keys, keyValueHeads, valueWidth),
/// all of one floating type; heads is a multiple of keyValueHeads. Result (batch, queries, heads, valueWidth).
/// A query that sees nothing gives zeros. With `softcap` c, scores s become c · tanh(s / c) (Gemma Team 2024).
public func attention(
  _ query: Tensor, _ key: Tensor, _ value: Tensor, mask: AttentionMask, scale: Float? = nil, softcap: Float? = nil
) throws -> Tensor {
  try attentionWithStatistics(query, key, value, mask: mask, scale: scale, softcap: softcap).output
}

/// Attention and the logarithm of each query's sum of exponentials (batch, heads, queries), f32: outputs over different keys
/// merge by it (o = Σ e^{l_i - l} o_i), which is split-K decoding and ring attention. Both are differentiable.
public func attentionWithStatistics(
  _ query: Tensor, _ key: Tensor, _ value: Tensor, mask: AttentionMask, scale: Float? = nil, softcap: Float? = nil
) throws -> (output: Tensor, logSumExp: Tensor) {
  let call = try AttentionCall(query, key, value, mask: mask, scale: scale, softcap: softcap)
  let (output, statistics) = try call.forward()
  let recorded = Tensor.record("attention", [query, key, value], outputs: [output, statistics]) { gradients in
    try call.backward(output: output, statistics: statistics, doutput: gradients[0], dstatistics: gradients[1])
  }
  return (recorded[0], recorded[1])
}

/// One call of the kernel and what its backward needs.
private struct AttentionCall: Sendable {
  let query: Tensor
  let key: Tensor
  let value: Tensor
  let mask: AttentionMask
  let scale: Float
  /// 0: none.
  let softcap: Float

  init(_ query: Tensor, _ key: Tensor, _ value: Tensor, mask: AttentionMask, scale: Float?, softcap: Float?) throws {
    try require(
      query.rank == 4 && key.rank == 4 && value.rank == 4 && query.dtype.isFloatingPoint && key.dtype == query.dtype
        && value.dtype == query.dtype && key.shape[0] == query.shape[0] && value.shape[0] == query.shape[0]
        && key.shape[1] == value.shape[1] && key.shape[2] == value.shape[2] && key.shape[3] == query.shape[3]
        && key.shape[2] > 0 && query.shape[2] % key.shape[2] == 0,
      "attention",
      expected: "query (batch, queries, heads, width), key and value (batch, keys, keyValueHeads, width) of one type",
      got: "\(query), \(key), \(value)")
    self.query = try query.rowMajorFeatures()
    self.key = try key.rowMajorFeatures()
    self.value = try value.rowMajorFeatures()
    self.mask = try mask.validated(batch: query.shape[0], queries: query.shape[1], keys: key.shape[1])
    self.scale = scale ?? 1 / Float(max(query.shape[3], 1)).squareRoot()
    try require(
      softcap.map { $0 > 0 && $0.isFinite } ?? true, "attention", expected: "a softcap above 0, or none",
      got: "\(softcap ?? 0)")
    self.softcap = softcap ?? 0
  }

  private func shape(output: Tensor) -> fm_attention_shape {
    var shape = fm_attention_shape()
    shape.type = query.kernelType
    shape.batch = Int64(query.shape[0])
    shape.query_heads = Int64(query.shape[2])
    shape.key_value_heads = Int64(key.shape[2])
    shape.query_length = Int64(query.shape[1])
    shape.key_length = Int64(key.shape[1])
    shape.key_width = Int64(query.shape[3])
    shape.value_width = Int64(value.shape[3])
    shape.query_stride = query.strides3
    shape.key_stride = key.strides3
    shape.value_stride = value.strides3
    shape.output_stride = output.strides3
    shape.scale = scale
    shape.softcap = softcap
    shape.mask = mask.kernelMask
    return shape
  }

  /// Pairs of query and key that the mask may show, for counting work.
  private var pairs: Int {
    let (queries, keys) = (query.shape[1], key.shape[1])
    let seen = mask.window > 0 ? min(keys, mask.window + mask.sinks) : keys
    return query.shape[0] * query.shape[2] * queries
      * (mask.isCausal && queries == keys && mask.window == 0 ? (seen + 1) / 2 : seen)
  }

  func forward() throws -> (Tensor, Tensor) {
    let output = try Tensor(
      uninitialized: [query.shape[0], query.shape[1], query.shape[2], value.shape[3]], query.dtype)
    let statistics = try Tensor(uninitialized: [query.shape[0], query.shape[2], query.shape[1]])
    if output.count == 0 { return (output, statistics) }
    var shape = shape(output: output)
    let status = fm_attention(
      &shape, query.pointer, key.pointer, value.pointer, output.pointer, statistics.floatPointer)
    withExtendedLifetime(self) {}
    try require(status == 0, "attention", expected: "scratch memory for tiles", got: "none")
    Work.add(
      flops: 2 * pairs * (query.shape[3] + value.shape[3]),
      bytes: query.byteCount + key.byteCount + value.byteCount + output.byteCount)
    return (output, statistics)
  }

  func backward(output: Tensor, statistics: Tensor, doutput: Tensor?, dstatistics: Tensor?) throws -> [Tensor?] {
    let dy = try (doutput ?? Tensor.zeros(output.shape, output.dtype)).contiguous()
    let dl = try dstatistics?.contiguous()
    let dquery = try Tensor(uninitialized: query.shape, query.dtype)
    let dkey = try Tensor(uninitialized: key.shape, key.dtype)
    let dvalue = try Tensor(uninitialized: value.shape, value.dtype)
    var strides = fm_attention_gradient_strides()
    strides.dquery_stride = dquery.strides3
    strides.dkey_stride = dkey.strides3
    strides.dvalue_stride = dvalue.strides3
    strides.doutput_stride = dy.strides3
    var shape = shape(output: output)
    let status = fm_attention_backward(
      &shape, &strides, query.pointer, key.pointer, value.pointer, output.pointer, statistics.floatPointer, dy.pointer,
      dl.map { UnsafePointer($0.floatPointer) }, dquery.pointer, dkey.pointer, dvalue.pointer)
    withExtendedLifetime((self, dy, dl, output, statistics)) {}
    try require(status == 0, "attention backward", expected: "scratch memory for tiles", got: "none")
    Work.add(
      flops: pairs * (6 * query.shape[3] + 4 * value.shape[3]),
      bytes: 2 * (query.byteCount + key.byteCount + value.byteCount) + 2 * output.byteCount)
    return [dquery, dkey, dvalue]
  }
}

/// The same in simple operations, with the whole matrix of scores: the oracle of the fused form.
package func attentionReference(
  _ query: Tensor, _ key: Tensor, _ value: Tensor, mask: AttentionMask, scale: Float? = nil, softcap: Float? = nil
) throws -> Tensor {
  try require(
    query.rank == 4 && key.rank == 4 && value.rank == 4 && key.shape[2] > 0 && query.shape[2] % key.shape[2] == 0,
    "attention", expected: "four axes each, and heads that key heads divide", got: "\(query), \(key), \(value)")
  let (batch, queries, heads, width) = (query.shape[0], query.shape[1], query.shape[2], query.shape[3])
  let keys = key.shape[1]
  func perHead(_ x: Tensor) throws -> Tensor {
    let wide = try x.cast(to: .float32).transposed(1, 2)
    let (kv, length, size) = (wide.shape[1], wide.shape[2], wide.shape[3])
    return try wide.expanded(at: 2).broadcast(to: [batch, kv, heads / kv, length, size]).reshaped([
      batch, heads, length, size,
    ])
  }
  let plain = try matmul(perHead(query), perHead(key).transposed(-1, -2)) * (scale ?? 1 / Float(width).squareRoot())
  let scores = try softcap.map { try (plain / $0).tanh() * $0 } ?? plain
  let seen = try mask.dense(batch: batch, queries: queries, keys: keys)
  let shown = try Tensor(
    seen.flatMap { $0.flatMap { $0.map { UInt8($0 ? 1 : 0) } } }, shape: [batch, 1, queries, keys])
  let hidden = try Tensor.selecting(shown, scores, Tensor(-1e30))
  let probabilities = try Tensor.selecting(shown, hidden.softmaxReference(), Tensor(0))
  return try matmul(probabilities, perHead(value)).transposed(1, 2).contiguous().cast(to: query.dtype)
}
