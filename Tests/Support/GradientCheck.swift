import FermataTensors

/// Compares gradients with central differences.
///
/// The function's outputs are projected on random seeds; along random directions of every input the slope of that number
/// (extrapolated from two steps, so that truncation is of fourth order and the step can stay far above f32's noise) must be
/// the gradient's. Functions of several outputs are also checked with a gradient at each output alone.
/// - Parameters:
///   - step: the larger step; inputs should be of size one.
///   - tolerance: allowed difference over the norm of the gradient, which is the size of a typical slope.
package func gradientCheck(
  _ name: String, _ inputs: [Tensor], step: Double = 0.03, tolerance: Double = 2e-3, directions: Int = 3,
  _ function: ([Tensor]) throws -> [Tensor]
) throws {
  var random = TestRandom("gradientCheck \(name)")
  let plain = try function(inputs)
  let seeds = try plain.map { try random.tensor($0.shape) }
  let subsets = plain.count > 1 ? [Array(plain.indices)] + plain.indices.map { [$0] } : [[0]]
  for chosen in subsets {
    let leaves = inputs.map { $0.tracked() }
    let outputs = try function(leaves)
    let found = try gradients(of: chosen.map { (outputs[$0], try seeds[$0].cast(to: outputs[$0].dtype)) })
    func projection(_ inputs: [Tensor]) throws -> Double {
      let outputs = try function(inputs)
      return try chosen.reduce(0) { try $0 + dot(outputs[$1].floats(), seeds[$1].floats()) }
    }
    for (index, input) in inputs.enumerated() {
      if let gradient = found[leaves[index]], gradient.shape != input.shape || gradient.dtype != input.dtype {
        throw Mismatch("\(name): the gradient of input \(index), \(input), is \(gradient)")
      }
      let gradient = try found[leaves[index]]?.floats() ?? [Float](repeating: 0, count: input.count)
      let norm = dot(gradient, gradient).squareRoot()
      for _ in 0..<directions {
        let direction = try random.tensor(input.shape)
        func slope(_ step: Double) throws -> Double {
          var (ahead, behind) = (inputs, inputs)
          ahead[index] = try input + direction * Float(step)
          behind[index] = try input + direction * Float(-step)
          return try (projection(ahead) - projection(behind)) / (2 * step)
        }
        let measured = try (4 * slope(step / 2) - slope(step)) / 3
        let expected = dot(gradient, try direction.floats())
        let error = abs(measured - expected)
        guard error <= tolerance * norm + 1e-3 * tolerance.squareRoot() else {
          throw Mismatch(
            "\(name): input \(index) of shape \(input.shape), gradients at outputs \(chosen): slope \(measured) by differences, "
              + "\(expected) by the gradient (norm \(norm), relative error \(error / norm), allowed \(tolerance))")
        }
      }
    }
  }
}

private func dot(_ a: [Float], _ b: [Float]) -> Double { zip(a, b).reduce(0) { $0 + Double($1.0) * Double($1.1) } }
