import FermataLayers
import FermataTensors

/// Causal attention between its projections: everything but the matrices around it.
///
///     o_t = Σ_{s seen by t} softmax_s(cap(scale · q_t · k_s)) v_s
///
/// State: keys and values (entries, batch, keyValueHeads, headWidth), as `SoftmaxAttention` describes. Mixers and model
/// families differ in where queries, keys and values come from; they share this.
public struct AttentionCore: Sendable, LengthDependent {
  public var heads: Int
  public var keyValueHeads: Int
  public var headWidth: Int
  /// Only keys less than this many positions back; 0: all.
  public var window = 0
  /// First keys that the window never hides.
  public var sinks = 0
  public var positions: any PositionScheme = NoPositions()
  /// nil: 1 / √headWidth.
  public var scale: Float?
  /// c of c · tanh(s / c) over scores; nil: scores stay as they are.
  public var softcap: Float?

  public init(heads: Int, keyValueHeads: Int, headWidth: Int) {
    self.heads = heads
    self.keyValueHeads = keyValueHeads
    self.headWidth = headWidth
  }

  public var dependsOnLength: Bool { positions.dependsOnLength }
  public mutating func fix(length: Int) throws { positions = try positions.fixed(length: length) }

  /// How many keys and values later tokens may still see.
  public func kept(_ entries: Int) -> Int { window > 0 ? min(entries, window - 1 + sinks) : entries }

  /// Bytes of the state after so many tokens.
  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    2 * kept(length) * batch * keyValueHeads * headWidth * dtype.byteCount
  }

  /// Reads a piece's queries (batch, length, heads · headWidth), keys and values (batch, length, keyValueHeads · headWidth),
  /// or the same with heads as an axis of their own, not yet turned. Result (batch, length, heads · headWidth).
  /// - Throws: leaves the state as it was.
  public func callAsFunction(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, state: inout MixerState
  ) throws -> Tensor {
    var next = try AttentionMemory(state, layout: layout, window: window, sinks: sinks)
    let (q, k, v) = try turned(query: query, key: key, value: value, layout: layout, positions: next.positions)
    try next.append(keys: k.transposed(0, 1), values: v.transposed(0, 1))
    let (keys, values) = try next.keysAndValues()
    let mixed = try attention(q, keys, values, mask: next.mask(), scale: scale, softcap: softcap)
    let y = try mixed.reshaped([layout.batch, layout.length, heads * headWidth])
    state = try next.finish()
    return y
  }

  /// Heads as an axis of their own (batch, length, heads, headWidth), queries and keys turned to where they stand.
  func turned(query: Tensor, key: Tensor, value: Tensor, layout: Layout, positions: Tensor) throws -> (
    query: Tensor, key: Tensor, value: Tensor
  ) {
    func split(_ x: Tensor, _ heads: Int) throws -> Tensor {
      try x.reshaped([layout.batch, layout.length, heads, headWidth])
    }
    let (q, k) = try self.positions.apply(
      query: split(query, heads), key: split(key, keyValueHeads), positions: positions)
    return (q, k, try split(value, keyValueHeads))
  }
}
