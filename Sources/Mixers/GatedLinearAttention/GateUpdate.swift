import FermataLayers
import FermataTensors

/// Decays computed from the input, per key feature or per head: how gated linear attention writes.
public struct GateUpdate: MemoryRule {
  /// GLA's low-rank gate: width → 16 → heads · keyWidth.
  public var gateDown: Linear?
  public var gateUp: Linear?
  /// Mamba-2's A, as its logarithm, and Δ's bias, per head.
  public var logDecay: Tensor?
  public var stepBias: Tensor?
  private let heads: Int

  /// Rank of GLA's gate and the divisor of its logarithm, both as the paper sets them.
  private static let gateRank = 16
  private static let gateDivisor: Float = 16

  init(_ memory: MatrixMemory, width: Int, gate: GatedLinearAttention.Gate, random: inout RandomSource) throws {
    heads = memory.heads
    switch gate {
    case .vector:
      let keys = memory.heads * memory.keyWidth
      gateDown = try Linear(width, Self.gateRank, random: &random)
      var up = try Linear(Self.gateRank, keys, bias: true, random: &random)
      // Decays start spread between forgetting in tens and in thousands of tokens.
      up.bias = try random.uniform([keys], 0, 6)
      gateUp = up
    case .scalar:
      let decay = try DecayStart(heads: heads, random: &random)
      (logDecay, stepBias) = (decay.logDecay, decay.stepBias)
    }
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("gate_down_proj", &gateDown)
    try visitor.module("gate_up_proj", &gateUp)
    try visitor.parameter("A_log", &logDecay)
    try visitor.parameter("dt_bias", &stepBias)
  }

  public var columns: Int { logDecay == nil ? 0 : heads }

  public func complete(_ tokens: inout MatrixTokens, x: Tensor, columns: Tensor, positions: Tensor?) throws {
    if let gateDown, let gateUp {
      let logits = try gateUp(gateDown(x)).cast(to: .float32)
      tokens.gate = try (logits.logSigmoid() / Self.gateDivisor).reshaped(tokens.key.shape)
    }
    if let logDecay, let stepBias {
      let step = try (columns.cast(to: .float32) + stepBias).softplus()
      tokens.gate = try -(step * logDecay.exp())
      tokens.value = try tokens.value * step.cast(to: x.dtype).expanded(at: 3)
    }
  }
}
