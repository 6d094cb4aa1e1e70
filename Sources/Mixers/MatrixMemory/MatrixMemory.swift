import FermataTensors

/// A matrix per head that tokens write into and read from: the state that all kinds of linear attention share, with the
/// laws it keeps.
///
/// State: "state" (batch, heads, features, valueWidth) f32: bytes = 4 · batch · heads · features · valueWidth. With a normaliser it has
/// one column more, which adds up the features of the keys, and readings are divided by what a query reads there.
public struct MatrixMemory: Sendable {
  public var heads: Int
  /// Width of projected queries and keys.
  public var keyWidth: Int
  /// What a rule makes of a key: rows of the matrix.
  public var features: Int
  public var valueWidth: Int
  /// Whether readings are weighted means; then features must not be negative.
  public var normalizes = false
  /// Whether the delta rule writes, so that a stretch is summarised by a whole matrix.
  public var isDelta: Bool
  /// What queries are multiplied with.
  public var scale: Float

  static let name = "state"

  /// Heads that share a width evenly, with `expansion` times their share as values, and a key width: as given, or the share itself.
  /// - Throws: `ConfigurationError` when they do not fit.
  public init(_ mixer: String, width: Int, heads: Int, keyWidth: Int?, expansion: Int = 1, isDelta: Bool = false) throws
  {
    guard heads > 0, heads <= 4096, width % heads == 0 else {
      throw ConfigurationError(
        "mixer '\(mixer)'", "num_heads (\(heads)) must divide the width (\(width)) and be at most 4096")
    }
    let keyWidth = keyWidth ?? width / heads
    guard keyWidth > 0, keyWidth <= 1024 else {
      throw ConfigurationError("mixer '\(mixer)'", "key_dim must be in 1...1024, got \(keyWidth)")
    }
    guard (1...16).contains(expansion) else {
      throw ConfigurationError("mixer '\(mixer)'", "expand_v must be in 1...16, got \(expansion)")
    }
    self.heads = heads
    self.keyWidth = keyWidth
    features = keyWidth
    self.isDelta = isDelta
    valueWidth = width / heads * expansion
    scale = 1 / Float(keyWidth).squareRoot()
  }

  var laws: Laws {
    Laws(
      cut: .causal,
      merge: .associative(
        cost: isDelta
          ? "dear: a \(features) × \(features) transition and a state per head" : "a decay and a matrix per head"))
  }

  /// Keeps the normaliser away from zero.
  private static let epsilon: Float = 1e-6
  private var columns: Int { valueWidth + (normalizes ? 1 : 0) }

  func stateBytes(batch: Int) -> Int { 4 * batch * heads * features * columns }

  func zeros(batch: Int) throws -> Tensor { try Tensor.zeros([batch, heads, features, columns]) }

  /// What the tokens read (batch, length, heads, valueWidth), moving the state on.
  func read(_ tokens: MatrixTokens, _ layout: Layout, state: inout MixerState) throws -> Tensor {
    let shown = try written(tokens, layout)
    let position = try state.position(after: layout.length)
    let (read, final) = try gatedScan(
      query: shown.query, key: shown.key, value: shown.value, gate: shown.gate, rate: shown.rate,
      state: state.tensor(Self.name), resets: layout.resets, scale: scale)
    state[Self.name] = final
    state.position = position
    guard normalizes else { return read }
    let parts = try read.split(sizes: [valueWidth, 1], axis: 3)
    return try parts[0] / (parts[1] + Self.epsilon)
  }

  /// The tokens as the scan takes them: without padding, and with the normaliser's column.
  private func written(_ tokens: MatrixTokens, _ layout: Layout) throws -> MatrixTokens {
    var shown = try tokens.hidingPadding(layout)
    if normalizes {
      let ones = try Tensor.ones([1, 1, 1, 1], shown.value.dtype).broadcast(to: shown.value.shape.dropLast() + [1])
      shown.value = try Tensor.concatenated([shown.value, ones], axis: 3)
    }
    return shown
  }

  // MARK: Merge law

  /// S ↦ diag(e^g) S + U, or with the delta rule S ↦ T S + U.
  ///
  /// "decay": the sum of the gates (batch, heads, features or 1), or "transition" (batch, heads, features, features);
  /// "increment": what the stretch leaves of an empty memory.
  func summarise(_ tokens: MatrixTokens, _ layout: Layout) throws -> Summary {
    try require(
      layout.resets == nil, "summarise", expected: "a stretch without document starts", got: "resets",
      advice: "summarise each document by itself")
    let shown = try written(tokens, layout)
    func after(_ state: Tensor, writing value: Tensor) throws -> Tensor {
      try gatedScan(
        query: shown.query, key: shown.key, value: value, gate: shown.gate, rate: shown.rate, state: state, scale: 1
      ).state
    }
    var summary = Summary(
      length: layout.length, tensors: ["increment": try after(zeros(batch: layout.batch), writing: shown.value)])
    if isDelta {
      let nothing = try Tensor.zeros(shown.key.shape, shown.key.dtype)
      summary.tensors["transition"] = try after(identity(batch: layout.batch), writing: nothing)
    } else {
      let total = try shown.gate.sum(axis: 1)
      summary.tensors["decay"] = total.rank == 3 ? total : try total.expanded(at: 2)
    }
    return summary
  }

  private func identity(batch: Int) throws -> Tensor {
    let values = (0..<features * features).map { $0 % (features + 1) == 0 ? Float(1) : 0 }
    return try Tensor(values, shape: [1, 1, features, features]).broadcast(to: [batch, heads, features, features])
  }

  /// (g₁ + g₂, diag(e^{g₂}) U₁ + U₂) or (T₂ T₁, T₂ U₁ + U₂)
  func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    let increment = try carried(left.tensor("increment"), through: right)
    let length = left.length + right.length
    guard isDelta else {
      return Summary(
        length: length, tensors: ["decay": try left.tensor("decay") + right.tensor("decay"), "increment": increment])
    }
    let transition = try matmul(right.tensor("transition"), left.tensor("transition"))
    return Summary(length: length, tensors: ["transition": transition, "increment": increment])
  }

  func advance(_ state: inout MixerState, by summary: Summary) throws {
    let position = try state.position(after: summary.length)
    state[Self.name] = try carried(state.tensor(Self.name), through: summary)
    state.position = position
  }

  /// What a stretch leaves of what stood in the memory before it, and what it adds.
  private func carried(_ matrix: Tensor, through summary: Summary) throws -> Tensor {
    let kept =
      isDelta
      ? try matmul(summary.tensor("transition"), matrix) : try matrix * summary.tensor("decay").exp().expanded(at: 3)
    return try kept + summary.tensor("increment")
  }
}
