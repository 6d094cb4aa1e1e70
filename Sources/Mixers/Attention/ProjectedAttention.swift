import FermataLayers
import FermataTensors

/// Causal attention with a matrix each for queries, keys, values and the way out, as most published models have it, and
/// optionally a norm over each head of queries and keys (Dehghani et al. 2023).
///
/// State, cost and what it is bad at: as `SoftmaxAttention`.
public struct ProjectedAttention: Mixer, LengthDependent {
  public var projections: AttentionProjections
  public var queryNorm: RMSNorm?
  public var keyNorm: RMSNorm?
  public var core: AttentionCore

  public init(_ projections: AttentionProjections, core: AttentionCore) {
    self.projections = projections
    self.core = core
  }

  /// `bias` for queries, keys and values; `outputBias` for the way out.
  public init(
    width: Int, core: AttentionCore, bias: Bool, outputBias: Bool,
    names: AttentionProjections.Names = AttentionProjections.Names(), random: inout RandomSource
  ) throws {
    let projections = try AttentionProjections(
      width: width, queryWidth: core.heads * core.headWidth, keyWidth: core.keyValueHeads * core.headWidth, bias: bias,
      outputBias: outputBias, names: names, random: &random)
    self.init(projections, core: core)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("", &projections)
    try visitor.module("q_norm", &queryNorm)
    try visitor.module("k_norm", &keyNorm)
  }

  public var laws: Laws { Laws(cut: .causal, merge: .associative(cost: "keys and values of the stretch")) }
  public var dependsOnLength: Bool { core.dependsOnLength }
  public mutating func fix(length: Int) throws { try core.fix(length: length) }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    core.stateBytes(batch: batch, length: length, dtype: dtype)
  }

  public func initialState(batch: Int) throws -> MixerState { MixerState() }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    func normed(_ x: Tensor, _ heads: Int, _ norm: RMSNorm?) throws -> Tensor {
      try norm?(x.reshaped([piece.batch, piece.length, heads, core.headWidth])) ?? x
    }
    let x = piece.values
    let mixed = try core(
      query: normed(projections.query(x), core.heads, queryNorm),
      key: normed(projections.key(x), core.keyValueHeads, keyNorm), value: projections.value(x), layout: piece.layout,
      state: &state)
    return try projections.output(mixed)
  }
}
