import CFermataKernels
import FermataLayers
import FermataTensors

/// AdamW (Loshchilov & Hutter 2019) over f32 master weights, with PyTorch's order of operations:
/// p ← p − lr·wd·p, then p ← p − lr · (m / c₁) / (√v / √c₂ + ε). Weight decay is for
/// weights only, not for coefficients (`ParameterRole`).
public struct AdamW: Sendable {
  public var beta1: Double
  public var beta2: Double
  public var epsilon: Double
  public var weightDecay: Double
  /// Steps taken.
  public internal(set) var step = 0
  /// Running means of gradients and of their squares, by parameter.
  var first: [String: Tensor] = [:]
  var second: [String: Tensor] = [:]

  public init(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8, weightDecay: Double = 0.01) {
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
  }

  /// One step. Gradients are scaled first, which is how clipping and accumulation are done without another pass.
  public mutating func update(
    _ module: inout some Module, gradients: [String: Tensor], learningRate: Double, gradientScale: Double = 1
  ) throws {
    step += 1
    var options = fm_adamw_options()
    options.learning_rate = Float(learningRate)
    options.beta1 = Float(beta1)
    options.beta2 = Float(beta2)
    options.epsilon = Float(epsilon)
    options.gradient_scale = Float(gradientScale)
    options.correction1 = Float(1 - power(beta1, step))
    options.correction2 = Float(1 - power(beta2, step))
    try module.updateParametersByRole { name, role, value in
      guard let gradient = gradients[name] else { return }
      try require(
        value.dtype == .float32 && gradient.shape == value.shape, "AdamW",
        expected: "an F32 gradient for \(name) \(value.shape)",
        got: "\(gradient)")
      options.weight_decay = role == .weight ? Float(weightDecay) : 0
      try apply(options, name, &value, gradient)
    }
  }

  private mutating func apply(_ options: fm_adamw_options, _ name: String, _ value: inout Tensor, _ gradient: Tensor)
    throws
  {
    var m = try first.removeValue(forKey: name) ?? Tensor.zeros(value.shape)
    var v = try second.removeValue(forKey: name) ?? Tensor.zeros(value.shape)
    let g = try gradient.detached.cast(to: .float32).contiguous()
    let count = value.count
    try value.withMutableBytes { p in
      try m.withMutableBytes { mBytes in
        try v.withMutableBytes { vBytes in
          guard let p = p.baseAddress, let m = mBytes.baseAddress, let v = vBytes.baseAddress else { return }
          fm_adamw(
            p.assumingMemoryBound(to: Float.self), g.pointer.assumingMemoryBound(to: Float.self),
            m.assumingMemoryBound(to: Float.self), v.assumingMemoryBound(to: Float.self), Int64(count), options)
        }
      }
    }
    withExtendedLifetime(g) {}
    Work.add(flops: 12 * count, bytes: 28 * count)
    first[name] = m
    second[name] = v
  }

  private func power(_ base: Double, _ exponent: Int) -> Double {
    var result = 1.0
    for _ in 0..<min(exponent, 100_000) { result *= base }
    return result
  }
}

/// √Σ g² over all gradients, in f64 and in the order of the names, whatever the number of threads.
public func gradientNorm(_ gradients: [String: Tensor]) throws -> Double {
  var sum = 0.0
  for name in gradients.keys.sorted() {
    guard let gradient = try gradients[name]?.detached.cast(to: .float32).contiguous() else { continue }
    sum += fm_sum_of_squares(gradient.pointer.assumingMemoryBound(to: Float.self), Int64(gradient.count))
    withExtendedLifetime(gradient) {}
  }
  return sum.squareRoot()
}
