import FermataLayers
import FermataTensors

/// The delta rule's way to write (Schlag et al. 2021; Yang et al. 2024), with decay where wanted (Yang et al. 2025):
///
///     q, k = unit(silu(·)),  v = silu(·),  β = c σ(w_β x),  g = −e^A softplus(w_α x + b)
///
/// The transition e^g (I − β k kᵀ) has the eigenvalue e^g (1 − β) along k. With c = 1 it is in (0, 1); with c = 2 in (−1, 1), which
/// lets a layer count and track states (Grazzi et al. 2025).
public struct DeltaUpdate: MemoryRule {
  /// A, as a logarithm, and the bias of the decay's step, per head; nil: nothing decays.
  public var logDecay: Tensor?
  public var stepBias: Tensor?
  public let allowsNegativeEigenvalues: Bool
  /// Whether silu is left to do: a convolution does it itself.
  private let appliesSiLU: Bool
  private let heads: Int

  init(_ options: DeltaRule.Options, decays: Bool, random: inout RandomSource) throws {
    heads = options.heads
    allowsNegativeEigenvalues = options.allowsNegativeEigenvalues ?? false
    appliesSiLU = (options.convolutionWidth ?? 0) == 0
    guard decays else { return }
    let decay = try DecayStart(heads: heads, random: &random)
    (logDecay, stepBias) = (decay.logDecay, decay.stepBias)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("A_log", &logDecay)
    try visitor.parameter("dt_bias", &stepBias)
  }

  public var columns: Int { logDecay == nil ? heads : 2 * heads }

  public func complete(_ tokens: inout MatrixTokens, x: Tensor, columns: Tensor, positions: Tensor?) throws {
    func activated(_ x: Tensor) throws -> Tensor { appliesSiLU ? try x.silu() : x }
    tokens.query = try unitNorm(activated(tokens.query))
    tokens.key = try unitNorm(activated(tokens.key))
    tokens.value = try activated(tokens.value)
    let wide = try columns.cast(to: .float32)
    let rate = try wide.slice(0..<heads, axis: 2).sigmoid()
    tokens.rate = allowsNegativeEigenvalues ? try rate * 2 : rate
    guard let logDecay, let stepBias else { return }
    let step = try (wide.slice(heads..<2 * heads, axis: 2) + stepBias).softplus()
    tokens.gate = try -(step * logDecay.exp())
  }
}

/// How Mamba-2's decays start (Dao & Gu 2024): g = −e^A · Δ per head, with e^A in 1…16 and Δ = softplus(b) spread evenly, as a
/// logarithm, between 0.001 and 0.1.
struct DecayStart {
  let logDecay: Tensor
  let stepBias: Tensor

  init(heads: Int, random: inout RandomSource) throws {
    logDecay = try random.uniform([heads], 1, 16).log()
    let steps = try (random.uniform([heads]) * Float(4.605_170_2) - Float(6.907_755_3)).exp()
    stepBias = try (steps.exp() - 1).log()
  }
}
