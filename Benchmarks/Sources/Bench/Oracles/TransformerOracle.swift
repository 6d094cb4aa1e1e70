import Fermata
import Foundation

/// A transformer in simple operations, from its equations: pre-norm blocks of attention with rotary positions and SwiGLU,
/// the head tied to the embedding. Slow, and nothing fused.
struct TransformerOracle {
  let configuration: ModelConfiguration
  let heads: Int
  /// Keys a query sees, itself included; 0: all before it.
  var window = 0
  /// By name; tracked where gradients are wanted.
  let parameters: [String: Tensor]

  init(_ model: LanguageModel, heads: Int, window: Int = 0) throws {
    configuration = model.configuration
    (self.heads, self.window) = (heads, window)
    parameters = Dictionary(uniqueKeysWithValues: try model.parameters().map { ($0.name, $0.value.tracked()) })
  }

  private func weight(_ name: String) throws -> Tensor {
    guard let value = parameters[name] else { throw BenchError("the model has no parameter \(name)") }
    return value
  }

  /// Mean loss over (batch, length) tokens.
  func loss(_ piece: TokenPiece) throws -> Tensor {
    let (batch, length, width) = (piece.layout.batch, piece.layout.length, configuration.width)
    let table = try weight("model.embed_tokens.weight")
    var x = try table.rows(at: piece.tokens)
    for layer in 0..<configuration.layers {
      let name = "model.layers.\(layer)."
      x = try x + mixed(norm(x, name + "input_layernorm.weight"), name + "mixer.")
      x = try x + fedForward(norm(x, name + "post_attention_layernorm.weight"), name + "mlp.")
    }
    let logits = try matmul(
      norm(x, "model.norm.weight").reshaped([batch * length, width]), table.transposed(0, 1))
    let targets = try piece.targets.values(as: Int32.self)
    let vocabulary = configuration.vocabularySize
    var picks = [Float](repeating: 0, count: targets.count * vocabulary)
    for (row, target) in targets.enumerated() { picks[row * vocabulary + Int(target)] = -1 / Float(targets.count) }
    return try (logits.logSoftmax() * Tensor(picks, shape: [targets.count, vocabulary])).sum()
  }

  private func norm(_ x: Tensor, _ name: String) throws -> Tensor {
    let scale = try x.squared().mean(axis: -1, keepingAxis: true) + Float(configuration.normEpsilon)
    return try x * scale.reciprocalSquareRoot() * weight(name)
  }

  private func mixed(_ x: Tensor, _ name: String) throws -> Tensor {
    let (batch, length, width) = (x.shape[0], x.shape[1], configuration.width)
    let headWidth = width / heads
    let parts = try matmul(x, weight(name + "qkv_proj.weight").transposed(0, 1))
      .split(sizes: [width, width, width], axis: 2)
      .map { try $0.reshaped([batch, length, heads, headWidth]).transposed(1, 2) }
    let (query, key) = (try turned(parts[0]), try turned(parts[1]))
    let scores = try matmul(query, key.transposed(2, 3)) * (1 / Float(headWidth).squareRoot()) + hidden(length)
    let powers = try (scores - scores.maximum(axis: -1, keepingAxis: true).detached).exp()
    let seen = try powers / powers.sum(axis: -1, keepingAxis: true)
    let read = try matmul(seen, parts[2]).transposed(1, 2).reshaped([batch, length, width])
    return try matmul(read, weight(name + "o_proj.weight").transposed(0, 1))
  }

  /// 0 where a key is seen, far below zero where not.
  private func hidden(_ length: Int) throws -> Tensor {
    let values = (0..<length * length).map { index -> Float in
      let (query, key) = (index / length, index % length)
      return key <= query && (window == 0 || key > query - window) ? 0 : -1e30
    }
    return try Tensor(values, shape: [length, length])
  }

  /// Rotary positions: pairs (i, i + width / 2) turned by position · 10000^(-2i/width).
  private func turned(_ x: Tensor) throws -> Tensor {
    let (length, half) = (x.shape[2], x.shape[3] / 2)
    let angles = (0..<length * half).map { index in
      Double(index / half) * pow(10_000, -Double(index % half) / Double(half))
    }
    let cosine = try Tensor(angles.map { Float(cos($0)) }, shape: [length, half])
    let sine = try Tensor(angles.map { Float(sin($0)) }, shape: [length, half])
    let parts = try x.split(sizes: [half, half], axis: 3)
    return try Tensor.concatenated(
      [parts[0] * cosine - parts[1] * sine, parts[0] * sine + parts[1] * cosine], axis: 3)
  }

  private func fedForward(_ x: Tensor, _ name: String) throws -> Tensor {
    let hidden = configuration.feedForwardWidth
    let parts = try matmul(x, weight(name + "gate_up_proj.weight").transposed(0, 1))
      .split(sizes: [hidden, hidden], axis: 2)
    return try matmul(
      parts[0] * parts[0].sigmoid() * parts[1], weight(name + "down_proj.weight").transposed(0, 1))
  }

  /// Loss and all gradients of a model on a small batch against this oracle.
  static func checks(
    _ configuration: ModelConfiguration, dtype: DType, heads: Int, window: Int = 0, length: Int = 96
  ) throws -> [Check] {
    let step = try TrainingStep(configuration, dtype: dtype, batch: 2, length: length)
    let oracle = try TransformerOracle(step.model, heads: heads, window: window)
    let found = try step.gradient()
    let loss = try oracle.loss(step.piece)
    let wanted = try gradients(of: loss)
    var (ours, theirs): ([Double], [Double]) = ([], [])
    for (name, value) in oracle.parameters.sorted(by: { $0.key < $1.key }) {
      ours += try found.gradients[name]?.floats().map(Double.init) ?? []
      theirs += try wanted[value]?.floats().map(Double.init) ?? []
    }
    return [
      Check(
        "loss against simple operations", [found.loss / Double(step.piece.tokens.count)], [Double(try loss.item())],
        allowed: dtype == .bfloat16 ? 1e-3 : 1e-6),
      Check(
        "gradients against simple operations", ours, theirs, allowed: dtype == .bfloat16 ? 3e-2 : 2e-5),
    ]
  }
}
