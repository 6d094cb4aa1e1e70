import FermataMixers
import FermataTensors
import FermataTestSupport

/// Gradients against central differences.
extension Subject {
  /// Gradients of inputs, context, parameters and initial state, for outputs and final state together and each alone.
  /// The layout has document starts or padding at random where asked, as far as the mixer takes them.
  func hasRightGradients(length: Int, layout wanted: Features = []) throws {
    guard features.isSuperset(of: wanted) else { return }
    var random = TestRandom("gradients \(name) \(length)")
    var start = try self.start(mixer.laws.cut == .none ? 0 : 4, &random)
    // Recurrent states that can occur, disturbed by one: next to an empty state, norms are so steep that differences tell
    // little, and so are quotients next to a normaliser that no sequence leaves behind.
    var past = TestRandom("gradients \(name), past")
    let lived = try self.start(mixer.laws.cut == .none ? 0 : 40, &past)
    for (name, tensor) in try mixer.initialState(batch: batch).tensors where tensor.dtype.isFloatingPoint {
      start[name] = try lived.tensor(name) + random.tensor(tensor.shape)
    }
    var piece = try self.piece(length, &random)
    if wanted.contains(.packing) { piece.layout.resets = try random.flags([batch, length], probability: 0.2) }
    if wanted.contains(.padding) { piece.layout.valid = try random.flags([batch, length], probability: 0.8) }
    let problem = try SlopeProblem(subject: withChoices(for: piece), piece: piece, start: start)
    let outputs = try problem.outputs(problem.inputs)
    let seeds = try outputs.map { try random.tensor($0.shape) }
    let alone = outputs.indices.map { [$0] }
    for chosen in alone.count > 1 ? [Array(outputs.indices)] + alone : alone {
      let leaves = problem.inputs.map { $0.tracked() }
      let tracked = try problem.outputs(leaves)
      let found = try FermataTensors.gradients(of: chosen.map { (tracked[$0], seeds[$0]) })
      for (index, leaf) in leaves.enumerated() {
        let direction = try random.tensor(leaf.shape)
        let gradient = try found[leaf] ?? Tensor.zeros(leaf.shape)
        let label = "\(name), \(length) tokens, gradient of \(problem.names[index]) at outputs \(chosen)"
        try problem.compare(gradient, along: direction, of: index, outputs: chosen, seeds: seeds, label)
      }
    }
  }
}

/// A mixer's step as a function of everything it depends on.
private struct SlopeProblem {
  let subject: Subject
  let piece: Piece
  let start: MixerState
  private let stateNames: [String]
  let inputs: [Tensor]
  let names: [String]

  init(subject: Subject, piece: Piece, start: MixerState) throws {
    (self.subject, self.piece, self.start) = (subject, piece, start)
    stateNames = start.names.filter { start[$0]?.dtype.isFloatingPoint ?? false }
    let parameters = try subject.mixer.parameters()
    inputs =
      try [piece.values] + (piece.context.map { [$0] } ?? []) + stateNames.map { try start.tensor($0) }
      + parameters.map(\.value)
    names = ["input"] + (piece.context == nil ? [] : ["context"]) + stateNames + parameters.map(\.name)
  }

  /// Outputs and every floating tensor of the final state.
  func outputs(_ inputs: [Tensor]) throws -> [Tensor] {
    var (mixer, state, piece) = (subject.mixer, start, piece)
    var rest = inputs[...]
    piece.values = rest.removeFirst()
    if piece.context != nil { piece.context = rest.removeFirst() }
    for name in stateNames { state[name] = rest.removeFirst() }
    try mixer.updateParameters { _, value in value = rest.removeFirst() }
    let output = try mixer(piece, state: &state)
    return [output] + state.names.compactMap { state[$0] }.filter { $0.dtype.isFloatingPoint }
  }

  /// Throws unless the slope along a direction is the gradient's for some step: functions differ in how far they are straight
  /// and in how much f32's noise weighs, but a wrong gradient agrees at no step.
  func compare(
    _ gradient: Tensor, along direction: Tensor, of index: Int, outputs chosen: [Int], seeds: [Tensor], _ label: String
  ) throws {
    let expected = dot(try gradient.floats(), try direction.floats())
    let norm = dot(try gradient.floats(), try gradient.floats()).squareRoot()
    var tried: [String] = []
    for step in [0.02, 0.005, 0.08, 0.00125, 0.0003, 0.00008] {
      let (measured, noise) = try slope(index, direction, step, chosen, seeds)
      // The finest steps are for steep functions alone, whose slopes stand out of the noise.
      if step < 0.001 && noise > 3e-3 * norm { break }
      if abs(measured - expected) <= 3e-3 * norm + noise { return }
      tried.append("\(measured) ± \(noise) at step \(step)")
    }
    throw Mismatch(
      "\(label): \(expected) by the gradient of norm \(norm), but by differences \(tried.joined(separator: ", "))")
  }

  /// Extrapolated from two steps, and what rounding of the outputs may add to it.
  private func slope(
    _ index: Int, _ direction: Tensor, _ step: Double, _ chosen: [Int], _ seeds: [Tensor]
  ) throws -> (slope: Double, noise: Double) {
    var squares = 0.0
    func projection(_ distance: Double) throws -> Double {
      var moved = inputs
      moved[index] = try moved[index] + direction * Float(distance)
      let results = try outputs(moved)
      return try chosen.reduce(0) { sum, output in
        // An empty state may hold an infinity, which nothing moves.
        let terms = try zip(results[output].floats(), seeds[output].floats()).map {
          $0.isInfinite ? 0 : Double($0) * Double($1)
        }
        squares += terms.reduce(0) { $0 + $1 * $1 }
        return sum + terms.reduce(0, +)
      }
    }
    func difference(_ step: Double) throws -> Double {
      (try projection(step) - projection(-step)) / (2 * step)
    }
    let slope = (4 * (try difference(step / 2)) - (try difference(step))) / 3
    // Each output is off by about 10⁻⁷ of itself, independently.
    return (slope, 2e-7 * squares.squareRoot() / step)
  }

  private func dot(_ a: [Float], _ b: [Float]) -> Double { zip(a, b).reduce(0) { $0 + Double($1.0) * Double($1.1) } }
}
