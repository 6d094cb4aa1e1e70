import FermataFiles
import FermataMixers
import FermataTensors
import FermataTestSupport
import Testing

/// A tree of provisional tokens on the mixers we ship: the shape of speculative decoding.
@Suite struct ProvisionalTreeTests {
  static let attention = MixerExample.all.filter { $0.entry.name == SoftmaxAttention.name }

  /// Round after round: draft a tree, commit some path, drop the rest; then the state is the one of the plain sequence.
  @Test(arguments: MixerExample.all) func committingLeavesNoTraceOfOthers(_ example: MixerExample) throws {
    for subject in try example.subjects() {
      try withSteadyProcess {
        var random = TestRandom("tree rounds \(example.testDescription)")
        var state = try subject.start(19, &random)
        var plain = state
        for _ in 0..<6 {
          let count = random.int(1...9)
          var tree = try subject.piece(count, &random)
          let flat = tree
          let parents = (0..<count).map { $0 == 0 ? -1 : random.int(-1...($0 - 1)) }
          tree.layout.parents = parents
          let before = try state.compacted()
          let branches = try subject.mixer.branches(tree, state: state)
          try expectIdenticalState(state, before, "a tree that nobody committed")
          let chosen = random.int(0...(count - 1))
          state = try branches.state(after: chosen)
          var path = [chosen]
          while let parent = path.first.map({ parents[$0] }), parent >= 0 { path.insert(parent, at: 0) }
          for token in path { _ = try subject.mixer(flat.slice(token..<token + 1), state: &plain) }
          try expectSameState(state, plain, LawTolerance.state(.float32), "\(example.testDescription) after \(parents)")
        }
        let next = try subject.piece(10, &random)
        try expectClose(
          subject.outputs(next, state: state), subject.outputs(next, state: plain), LawTolerance.outputs(.float32),
          example.testDescription)
      }
    }
  }

  /// Attention's tree in one step against the walk token by token, after documents and padding too, with gradients.
  @Test(arguments: attention) func oneStepEqualsTheWalk(_ example: MixerExample) throws {
    for subject in try example.subjects() {
      let mixer = try #require(subject.mixer as? SoftmaxAttention)
      try onEveryPath { _ in
        for (prefix, isRagged) in [(0, false), (1, false), (8, false), (30, true)] {
          var random = TestRandom("one step \(prefix)")
          var before = try subject.piece(prefix + 1, &random)
          if isRagged {
            before.layout.resets = try random.flags([3, prefix + 1], probability: 0.1)
            before.layout.valid = try random.flags([3, prefix + 1], probability: 0.7)
          }
          var state = try mixer.initialState(batch: 3)
          if prefix > 0 { _ = try mixer(before, state: &state) }
          var tree = try subject.piece(14, &random)
          let parents = (0..<14).map { $0 == 0 ? -1 : random.int(max(-1, $0 - 4)...($0 - 1)) }
          tree.layout.parents = parents
          let leaf = tree.values.tracked()
          tree.values = leaf
          let (one, walk) = (try mixer.branches(tree, state: state), try mixer.branchesTokenByToken(tree, state: state))
          let label = "\(example.testDescription) after \(prefix), parents \(parents)"
          try expectClose(one.outputs, walk.outputs, LawTolerance.outputs(.float32), label)
          for token in parents.indices {
            try expectSameState(
              one.state(after: token), walk.state(after: token), LawTolerance.state(.float32),
              "\(label), token \(token)")
          }
          let seed = try random.tensor(one.outputs.shape)
          let found = try [one, walk].map { try #require(gradients(of: [($0.outputs, seed)])[leaf]) }
          try expectClose(found[0], found[1], LawTolerance.gradients(.float32), "\(label): gradient")
        }
      }
    }
  }

  /// Malformed trees are refused.
  @Test(arguments: MixerExample.all) func refusesMalformedTrees(_ example: MixerExample) throws {
    for subject in try example.subjects() {
      var random = TestRandom("malformed trees")
      let state = try subject.start(3, &random)
      let piece = try subject.piece(3, &random)
      for parents in [[0, 0, 1], [-1, 2, 0], [-2, 0, 0], [-1, 0]] {
        try expectRefusal("parents \(parents)") {
          var layout = piece.layout
          layout.parents = parents
          _ = try subject.mixer.branches(Piece(piece.values, layout: layout), state: state)
        }
      }
      try expectRefusal("a sequence as a tree") { _ = try subject.mixer.branches(piece, state: state) }
    }
  }
}
