import FermataLayers
import FermataTensors

/// The projections around a matrix memory:
///
///     q, k, v, r = W_in x,   y = W_o (norm(o) · silu(r))
///
/// with a norm (root mean square) for each head and the gate r where there are such, and where wanted a short convolution with silu
/// over queries, keys and values.
public struct MemoryProjections: Module {
  /// Queries, keys, values, the output gate and the rule's columns in one product.
  public var input: Linear
  public var convolution: ShortConvolution?
  public var norm: RMSNorm?
  public var output: Linear
  private let heads: Int
  private let keyWidth: Int
  private let valueWidth: Int
  private let columns: Int
  private let isGated: Bool

  /// Fresh projections between a width and a memory: with the rule's `columns`, a short convolution where its width is above 0, an
  /// output gate, a norm.
  public init(
    _ memory: MatrixMemory, width: Int, columns: Int = 0, convolutionWidth: Int = 0, isGated: Bool,
    isNormed: Bool = true, random: inout RandomSource
  ) throws {
    (heads, keyWidth, valueWidth) = (memory.heads, memory.keyWidth, memory.valueWidth)
    (self.columns, self.isGated) = (columns, isGated)
    let (keys, values) = (heads * keyWidth, heads * valueWidth)
    input = try Linear(width, 2 * keys + (isGated ? 2 : 1) * values + columns, random: &random)
    if convolutionWidth > 0 {
      convolution = try ShortConvolution(
        channels: 2 * keys + values, width: convolutionWidth, bias: false, random: &random)
    }
    norm = isNormed ? try RMSNorm(valueWidth) : nil
    output = try Linear(values, width, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("in_proj", &input)
    try visitor.module("convolution", &convolution)
    try visitor.module("norm", &norm)
    try visitor.module("o_proj", &output)
  }

  /// Queries, keys, values and output gate of a piece, completed by a rule; for mixers without convolution.
  func tokens(_ piece: Piece, rule: some MemoryRule, positions: Tensor? = nil) throws -> MatrixTokens {
    var tail: Tensor?
    return try tokens(piece, rule: rule, positions: positions, tail: &tail)
  }

  /// The same after a convolution's tail, which moves on; nil where there is no convolution.
  func tokens(_ piece: Piece, rule: some MemoryRule, positions: Tensor? = nil, tail: inout Tensor?) throws
    -> MatrixTokens
  {
    let (keys, values) = (heads * keyWidth, heads * valueWidth)
    let rest = [isGated ? values : 0, columns]
    var parts: [Tensor]
    if let convolution, let before = tail {
      let projected = try input(piece.values).split(sizes: [2 * keys + values] + rest, axis: 2)
      let (mixed, after) = try convolution(
        projected[0], tail: before, resets: piece.layout.resets, valid: piece.layout.valid)
      parts = try mixed.split(sizes: [keys, keys, values], axis: 2) + projected.dropFirst()
      tail = after
    } else {
      parts = try input(piece.values).split(sizes: [keys, keys, values] + rest, axis: 2)
    }
    func headed(_ x: Tensor, _ width: Int) throws -> Tensor {
      try x.reshaped([piece.batch, piece.length, heads, width])
    }
    var tokens = try MatrixTokens(
      query: headed(parts[0], keyWidth), key: headed(parts[1], keyWidth), value: headed(parts[2], valueWidth))
    if isGated { tokens.outputGate = try headed(parts[3], valueWidth) }
    try rule.complete(&tokens, x: piece.values, columns: parts[4], positions: positions)
    return tokens
  }

  /// Outputs (batch, length, width) from what was read (batch, length, heads, valueWidth).
  func outputs(_ read: Tensor, gate: Tensor?) throws -> Tensor {
    var mixed = try norm?(read) ?? read
    if let gate { mixed = try mixed * gate.silu() }
    return try output(mixed.reshaped(Array(read.shape.prefix(2)) + [heads * valueWidth]))
  }
}
