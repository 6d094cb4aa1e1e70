import FermataMixers
import FermataTensors
import FermataTestSupport

/// The merge law: summaries stand for stretches, and combine associatively.
extension Subject {
  func keepsMergeLaw() throws {
    guard case .associative = mixer.laws.merge else {
      if mixer is any MergingMixer { throw Mismatch("\(name): can merge but does not declare it") }
      return
    }
    guard let merging = mixer as? any MergingMixer else { throw Mismatch("\(name): declares merging without it") }
    var random = TestRandom("merge \(name)")
    for prefix in mixer.laws.cut == .none ? [0] : [0, 5, 40] {
      let start = try self.start(prefix, &random)
      var position = start.position
      let stretches = try [7, 1, 30].map { length in
        let piece = try self.piece(length, &random, at: position)
        position += length
        return piece
      }
      if mixer.laws.cut == .none {
        try mergesAround(merging, stretches, start)
      } else {
        try mergesInOrder(merging, stretches, start, "\(name) after \(prefix) tokens")
      }
      try isAssociative(merging, stretches)
    }
  }

  /// A piece that says where it stands, for mixers whose summaries depend on that.
  private func piece(_ length: Int, _ random: inout TestRandom, at position: Int) throws -> Piece {
    var piece = try self.piece(length, &random)
    let row = (position..<position + length).map { Int32($0) }
    piece.layout.positions = try Tensor(Array(repeating: row, count: batch).flatMap { $0 }, shape: [batch, length])
    return piece
  }

  /// Advancing by a summary is running the stretch.
  private func mergesInOrder(
    _ merging: any MergingMixer, _ stretches: [Piece], _ start: MixerState, _ label: String
  ) throws {
    var random = TestRandom("merge order \(name)")
    var run = start
    for stretch in stretches.prefix(2) { _ = try merging(stretch, state: &run) }
    let (left, right) = (try merging.summarise(stretches[0]), try merging.summarise(stretches[1]))
    var stepwise = start
    try merging.advance(&stepwise, by: left)
    try merging.advance(&stepwise, by: right)
    try expectSameState(stepwise, run, LawTolerance.state(.float32), "\(label): advanced twice")
    var merged = start
    try merging.advance(&merged, by: merging.merged(left, right))
    try expectSameState(merged, run, LawTolerance.state(.float32), "\(label): advanced by a merged summary")
    let next = try piece(9, &random)
    try expectClose(
      outputs(next, state: merged), outputs(next, state: run), LawTolerance.outputs(.float32), "\(label): what follows")
  }

  /// A state found by way of summaries, those of nothing included, has the gradients of one that was run: of the stretches'
  /// inputs, of parameters and of the state before them. Nothing merged with nothing is nothing.
  func hasGradientsThroughSummaries() throws {
    guard mixer.laws.cut != .none, let merging = mixer as? any MergingMixer else { return }
    var random = TestRandom("merged gradients \(name)")
    for prefix in [0, 40] {
      let start = try self.start(prefix, &random)
      var position = start.position
      let stretches = try [7, 1, 30].map { length in
        let piece = try self.piece(length, &random, at: position)
        position += length
        return piece
      }
      var final = start
      for stretch in stretches { _ = try merging(stretch, state: &final) }
      let seeds = try PiecewiseRun.Seeds(Tensor.zeros([]), final, &random).final
      let nothing = try piece(0, &random, at: start.position)
      let expected = try MergedRun(merging, stretches, from: start, seeds: seeds) { mixer, stretches, state in
        for stretch in stretches { _ = try mixer(stretch, state: &state) }
      }
      let found = try MergedRun(merging, stretches, from: start, seeds: seeds) { mixer, stretches, state in
        let empty = try mixer.summarise(nothing)
        let parts = try stretches.map { try mixer.summarise($0) }
        let left = try mixer.merged(mixer.merged(empty, parts[0]), mixer.merged(parts[1], empty))
        let right = try mixer.merged(parts[2], mixer.merged(empty, empty))
        try mixer.advance(&state, by: mixer.merged(empty, empty))
        try mixer.advance(&state, by: mixer.merged(left, right))
      }
      try found.expectSame(as: expected, "\(name) after \(prefix) tokens, merged")
    }
  }

  /// For a mixer that sees everything at once: a stretch, given the summaries of all others, has the whole's outputs.
  private func mergesAround(_ merging: any MergingMixer, _ stretches: [Piece], _ start: MixerState) throws {
    let all = try Piece(
      Tensor.concatenated(stretches.map(\.values), axis: 1), context: stretches[0].context)
    let whole = try outputs(all, state: start)
    var first = 0
    for (index, stretch) in stretches.enumerated() {
      var state = start
      for (other, piece) in stretches.enumerated() where other != index {
        try merging.advance(&state, by: merging.summarise(piece))
      }
      try expectClose(
        outputs(stretch, state: state), whole.slice(first..<first + stretch.length, axis: 1).contiguous(),
        LawTolerance.outputs(.float32), "\(name): stretch \(index) given the others")
      first += stretch.length
    }
  }

  private func isAssociative(_ merging: any MergingMixer, _ stretches: [Piece]) throws {
    let summaries = try stretches.map { try merging.summarise($0) }
    let left = try merging.merged(merging.merged(summaries[0], summaries[1]), summaries[2])
    let right = try merging.merged(summaries[0], merging.merged(summaries[1], summaries[2]))
    guard left.length == right.length, left.tensors.keys.sorted() == right.tensors.keys.sorted() else {
      throw Mismatch("\(name): merged summaries of different kinds")
    }
    for key in left.tensors.keys.sorted() {
      try expectClose(
        left.tensor(key), right.tensor(key), LawTolerance.state(.float32), "\(name): associativity, \(key)")
    }
  }
}

/// The state after stretches, and the gradients of Σ state · seeds.
private struct MergedRun {
  let final: MixerState
  var gradients: [String: Tensor] = [:]

  init(
    _ mixer: any MergingMixer, _ stretches: [Piece], from start: MixerState, seeds: [String: Tensor],
    advance: (any MergingMixer, [Piece], inout MixerState) throws -> Void
  ) throws {
    let tracked = try mixer.tracked()
    let before = start.tracked
    let leaves = stretches.map { stretch in
      var leaf = stretch
      leaf.values = stretch.values.tracked()
      return leaf
    }
    var state = before
    try advance(tracked, leaves, &state)
    let found = try FermataTensors.gradients(
      of: seeds.sorted { $0.key < $1.key }.map { (try state.tensor($0.key), $0.value) })
    final = state.detached
    for (index, leaf) in leaves.enumerated() { gradients["inputs of stretch \(index)"] = found[leaf.values] }
    for name in before.names { gradients["initial \(name)"] = try found[before.tensor(name)] }
    for (name, value) in try tracked.parameters() { gradients[name] = found[value] }
  }

  func expectSame(as expected: MergedRun, _ label: String) throws {
    try expectSameState(final, expected.final, LawTolerance.state(.float32), label)
    for name in Set(gradients.keys).union(expected.gradients.keys).sorted() {
      guard let some = gradients[name] ?? expected.gradients[name] else { continue }
      let zeros = try Tensor.zeros(some.shape, some.dtype)
      try expectClose(
        gradients[name] ?? zeros, expected.gradients[name] ?? zeros, LawTolerance.gradients(.float32),
        "\(label): gradient of \(name)")
    }
  }
}
