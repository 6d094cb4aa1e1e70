import FermataMixers
import FermataTensors
import FermataTestSupport

/// What a state promises as a value: forks, roll-back, trees, size, and being left alone by errors.
extension Subject {
  /// Going on with a copy and dropping it leaves no trace; two forks do not see each other.
  func forksWithoutTrace() throws {
    if mixer.laws.cut == .none { return }
    var random = TestRandom("fork \(name)")
    let (head, provisional, other) = (try piece(37, &random), try piece(5, &random), try piece(3, &random))
    let tail = try piece(20, &random)
    let begin = try start(0, &random)
    func history() throws -> MixerState {
      var state = begin
      _ = try outputs(head, cuts: [30, 1, 1, 1, 1, 1, 1, 1], state: &state)
      return state
    }
    var undisturbed = try history()
    let expected = try outputs(tail, cuts: [1, 1, 5], state: &undisturbed)
    let expectedFork = try outputs(other, state: history())

    var state = try history()
    let snapshot = try state.compacted()
    for name in state.names where try snapshot.tensor(name).storage === state.tensor(name).storage {
      throw Mismatch("\(self.name): a compacted '\(name)' shares memory")
    }
    var (fork, rival) = (state, state)
    _ = try outputs(provisional, cuts: [1, 1], state: &fork)
    try expectSameBits(
      outputs(other, cuts: [3], state: &rival), expectedFork, "\(name): a fork beside another")
    try expectIdenticalState(state, snapshot, "\(name): the original after its forks went on")
    let after = try outputs(tail, cuts: [1, 1, 5], state: &state)
    try expectSameBits(after, expected, "\(name): outputs after a roll-back")
    try expectIdenticalState(state, undisturbed, "\(name): state after a roll-back")
    _ = try outputs(tail, cuts: [2], state: &fork)
    try expectIdenticalState(state, undisturbed, "\(name): state while a fork goes on")
    var restored = snapshot
    try expectSameBits(
      outputs(tail, cuts: [1, 1, 5], state: &restored), expected, "\(name): outputs after a snapshot")
  }

  /// A tree of drafts gives each path's outputs; committing a branch is having run its path.
  func walksTrees() throws {
    if mixer.laws.cut == .none { return }
    var random = TestRandom("tree \(name)")
    for (prefix, parents) in [(0, [-1, 0, 0]), (11, [-1, 0, 1, 0, 3, -1, 5, 2]), (70, [-1, -1, -1, 1, 3])] {
      let start = try self.start(prefix, &random)
      let before = try start.compacted()
      var tree = try piece(parents.count, &random)
      let next = try piece(12, &random)
      let flat = tree
      tree.layout.parents = parents
      try expectRefusal("\(name): a tree as a sequence") { _ = try outputs(tree, state: start) }
      let branches = try mixer.branches(tree, state: start)
      try expectRefusal("\(name): a token beyond the tree") { _ = try branches.state(after: parents.count) }
      try expectIdenticalState(start, before, "\(name): the state under a tree")
      for token in parents.indices {
        var path = [token]
        while let parent = path.first.map({ parents[$0] }), parent >= 0 { path.insert(parent, at: 0) }
        let label = "\(name): node \(token) of \(parents) after \(prefix) tokens"
        var plain = start
        let values = try Tensor.concatenated(path.map { try flat.values.slice($0..<$0 + 1, axis: 1) }, axis: 1)
        let outputs = try mixer(Piece(values, context: flat.context), state: &plain)
        try expectClose(
          branches.outputs.slice(token..<token + 1, axis: 1).contiguous(),
          outputs.slice(path.count - 1..<path.count, axis: 1).contiguous(), LawTolerance.outputs(.float32), label)
        var committed = try branches.state(after: token)
        try expectSameState(committed, plain, LawTolerance.state(.float32), "\(label), committed")
        try expectClose(
          mixer(next, state: &committed), mixer(next, state: &plain), LawTolerance.outputs(.float32),
          "\(label), committed and continued")
      }
    }
  }

  /// A piece of no tokens gives no outputs and changes nothing.
  func passesOverNothing() throws {
    var random = TestRandom("nothing \(name)")
    for prefix in [0, 12] {
      let start = try self.start(prefix, &random)
      let next = try piece(5, &random)
      var state = start
      let outputs = try mixer(piece(0, &random), state: &state)
      if outputs.shape != [batch, 0, width] { throw Mismatch("\(name): an empty piece gives \(outputs)") }
      var plain = start
      try expectSameBits(mixer(next, state: &state), mixer(next, state: &plain), "\(name): after an empty piece")
      try expectIdenticalState(state, plain, "\(name): after an empty piece")
    }
  }

  /// The declared number of bytes is the state's.
  func knowsItsSize() throws {
    var random = TestRandom("size \(name)")
    for dtype in [DType.float32, .bfloat16] {
      for length in [1, 7, 8, 9, 10, 11, 100] {
        var state = try mixer.initialState(batch: batch)
        _ = try mixer(piece(length, &random, dtype), state: &state)
        let declared = mixer.stateBytes(batch: batch, length: length, dtype: dtype)
        if declared != state.byteCount {
          throw Mismatch("\(name): \(state.byteCount) bytes after \(length) tokens in \(dtype), declared \(declared)")
        }
      }
    }
  }

  /// What does not fit throws, and the state is as it was.
  func refusesWhatDoesNotFit() throws {
    var random = TestRandom("errors \(name)")
    let start = try self.start(mixer.laws.cut == .none ? 0 : 12, &random)
    let good = try piece(4, &random)
    func refuses(_ label: String, _ state: MixerState, _ piece: Piece) throws {
      var state = state
      let before = try state.compacted()
      try expectRefusal("\(name): \(label)") { _ = try mixer(piece, state: &state) }
      try expectIdenticalState(state, before, "\(name): state after \(label)")
    }
    var wrong = good
    wrong.values = try random.tensor([batch, 4, width + 1])
    try refuses("a piece of another width", start, wrong)
    wrong = try piece(4, &random, batch: batch + 1)
    if !start.names.isEmpty { try refuses("a piece of another batch", start, wrong) }
    for name in start.names {
      var state = start
      let tensor = try start.tensor(name)
      state[name] = try Tensor.zeros(tensor.shape.dropLast() + [tensor.shape[tensor.rank - 1] + 1], tensor.dtype)
      try refuses("a state whose '\(name)' has another shape", state, good)
      state[name] = try tensor.cast(to: tensor.dtype.isFloatingPoint ? DType.int32 : .float32)
      try refuses("a state whose '\(name)' has another type", state, good)
      state[name] = nil
      try refuses("a state without '\(name)'", state, good)
    }
    if mixer.laws.cut == .causal {
      _ = try outputs(good, state: start)
    }
  }
}
