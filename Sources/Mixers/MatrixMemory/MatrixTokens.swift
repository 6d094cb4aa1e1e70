import FermataTensors

/// What the tokens of a piece ask of a matrix memory and write into it.
public struct MatrixTokens: Sendable {
  /// (batch, length, heads, keyWidth)
  public var query: Tensor
  /// (batch, length, heads, keyWidth)
  public var key: Tensor
  /// (batch, length, heads, valueWidth)
  public var value: Tensor
  /// The logarithm of the decay, f32 (batch, length, heads) or (batch, length, heads, keyWidth).
  public var gate: Tensor
  /// The delta rule's rate, f32 (batch, length, heads).
  public var rate: Tensor?
  /// What the mixer multiplies its outputs with, when it does.
  public var outputGate: Tensor?

  /// Tokens that let nothing decay: queries, keys (batch, length, heads, keyWidth) and values (batch, length, heads, valueWidth).
  init(query: Tensor, key: Tensor, value: Tensor) throws {
    self.query = query
    self.key = key
    self.value = value
    gate = try Tensor.zeros([1, 1, 1]).broadcast(to: Array(query.shape.dropLast()))
  }

  /// The tokens in a range.
  func slice(_ range: Range<Int>) throws -> MatrixTokens {
    var result = self
    result.query = try query.slice(range, axis: 1)
    result.key = try key.slice(range, axis: 1)
    result.value = try value.slice(range, axis: 1)
    result.gate = try gate.slice(range, axis: 1)
    result.rate = try rate?.slice(range, axis: 1)
    result.outputGate = try outputGate?.slice(range, axis: 1)
    return result
  }

  /// Padding neither decays a memory nor adds to it.
  func hidingPadding(_ layout: Layout) throws -> MatrixTokens {
    guard let valid = layout.valid else { return self }
    var result = self
    func hidden(_ x: Tensor) throws -> Tensor {
      let shown = try valid.reshaped(Array([layout.batch, layout.length, 1, 1].prefix(x.rank)))
      return try Tensor.selecting(shown, x, Tensor.zeros([], x.dtype))
    }
    result.gate = try hidden(gate)
    result.key = try hidden(key)
    return result
  }
}
