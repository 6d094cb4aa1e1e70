import FermataLayers
import FermataMixers
import FermataTensors
import FermataTestSupport

/// What a run over a sequence gives: outputs, final state, and the gradients of Σ outputs · seeds + Σ final state · seeds.
struct PiecewiseRun {
  var outputs: Tensor
  var final: MixerState
  var input: Tensor?
  var context: Tensor?
  var initial: [String: Tensor] = [:]
  var parameters: [String: Tensor] = [:]

  /// Seeds of the projection, shared by the runs to compare.
  struct Seeds {
    var outputs: Tensor
    var final: [String: Tensor]

    init(_ outputs: Tensor, _ final: MixerState, _ random: inout TestRandom) throws {
      self.outputs = try random.tensor(outputs.shape, outputs.dtype)
      self.final = [:]
      for name in final.names {
        let tensor = try final.tensor(name)
        if tensor.dtype.isFloatingPoint { self.final[name] = try random.tensor(tensor.shape, tensor.dtype) }
      }
    }
  }

  /// Runs forward piece by piece, keeping only the states between, then backward from the last piece to the first:
  /// each is computed again from its state, and the gradient of its initial state becomes that of the final state before.
  init(_ mixer: any Mixer, _ piece: Piece, from start: MixerState, cuts: [Int], seeds: Seeds) throws {
    let parts = ranges(cuts, of: piece.length)
    var states = [start.detached]
    var results: [Tensor] = []
    for part in parts {
      var state = states[states.count - 1]
      results.append(try mixer(piece.slice(part), state: &state))
      states.append(state.detached)
    }
    outputs = try Tensor.concatenated(results, axis: 1)
    final = states[states.count - 1]
    var stateGradients = seeds.final
    var inputs: [Tensor] = []
    for (index, part) in parts.enumerated().reversed() {
      let seed = try seeds.outputs.slice(part, axis: 1).contiguous()
      stateGradients = try step(
        mixer, piece.slice(part), from: states[index], output: seed, state: stateGradients, inputs: &inputs)
    }
    initial = stateGradients
    input = try Tensor.concatenated(inputs.reversed(), axis: 1)
  }

  /// One piece's backward: adds to the gradients of parameters, returns those of its initial state.
  private mutating func step(
    _ mixer: any Mixer, _ piece: Piece, from start: MixerState, output seed: Tensor, state seeds: [String: Tensor],
    inputs: inout [Tensor]
  ) throws -> [String: Tensor] {
    let tracked = try mixer.tracked()
    let before = start.tracked
    var leaf = piece
    leaf.values = piece.values.detached.tracked()
    leaf.context = piece.context?.detached.tracked()
    var state = before
    let result = try tracked(leaf, state: &state)
    var roots: [(output: Tensor, seed: Tensor?)] = [(result, seed)]
    for (name, seed) in seeds { roots.append((try state.tensor(name), seed)) }
    let found = try gradients(of: roots)
    inputs.append(try found[leaf.values] ?? Tensor.zeros(piece.values.shape, piece.values.dtype))
    if let leafContext = leaf.context, let gradient = found[leafContext] {
      context = try context.map { try $0 + gradient } ?? gradient
    }
    for (name, value) in try tracked.parameters() {
      guard let gradient = found[value] else { continue }
      parameters[name] = try parameters[name].map { try $0 + gradient } ?? gradient
    }
    var earlier: [String: Tensor] = [:]
    for name in before.names { earlier[name] = try found[before.tensor(name)] }
    return earlier
  }

  func expectSame(as expected: PiecewiseRun, _ dtype: DType, _ label: String) throws {
    try expectClose(outputs, expected.outputs, LawTolerance.outputs(dtype), "\(label): outputs")
    try expectSameState(final, expected.final, LawTolerance.state(dtype), "\(label): final state")
    try compare(input, expected.input, dtype, "\(label): input gradient")
    try compare(context, expected.context, dtype, "\(label): context gradient")
    for name in Set(initial.keys).union(expected.initial.keys).sorted() {
      try compare(initial[name], expected.initial[name], dtype, "\(label): gradient of initial \(name)")
    }
    for name in Set(parameters.keys).union(expected.parameters.keys).sorted() {
      try compare(parameters[name], expected.parameters[name], dtype, "\(label): gradient of \(name)")
    }
  }

  private func compare(_ actual: Tensor?, _ expected: Tensor?, _ dtype: DType, _ label: String) throws {
    switch (actual, expected) {
    case (nil, nil): return
    case (let actual?, let expected?): try expectClose(actual, expected, LawTolerance.gradients(dtype), label)
    // No gradient and a gradient of zeros mean the same.
    case (let one?, nil), (nil, let one?): try expectClose(one, Tensor.zeros(one.shape, one.dtype), .exact, label)
    }
  }
}
