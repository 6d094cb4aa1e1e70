import FermataMixers
import FermataTensors
import FermataTestSupport
import Testing

/// Streams go on past 2³¹ tokens, and states that cannot be are refused.
@Suite struct FarPositionTests {
  private static let far = [(1 << 31) - 25, (1 << 31) + 5, (1 << 40) + 3, (1 << 53) + 1, (1 << 59) + 12_345]

  private func subject(_ json: String, _ name: String) throws -> Subject {
    guard let entry = MixerRegistry.standard.entries.first(where: { $0.name == name }) else {
      throw Mismatch("no mixer \(name)")
    }
    let example = MixerExample(entry: entry, example: json)
    return Subject(name: "\(name) \(json)", mixer: try example.mixer(16), width: 16)
  }

  private func streamed(_ subject: Subject, _ piece: Piece, from state: MixerState, cut: Int) throws -> Tensor {
    var state = state
    let outputs = try subject.outputs(
      piece, cuts: Array(repeating: cut, count: piece.length / cut), state: &state)
    #expect(state.position > piece.length)
    return outputs
  }

  /// What the state holds has left the window when outputs are compared, so position alone differs.
  @Test(arguments: [
    ("softmax_attention", #"{"num_attention_heads": 2, "sliding_window": 9}"#),
    ("gated_linear_attention", #"{"num_heads": 2}"#),
    ("gated_linear_attention", #"{"num_heads": 2, "gate": "scalar"}"#), ("lstm", "{}"),
  ]) func outputsAreThoseOfSmallPositions(_ name: String, _ json: String) throws {
    let subject = try subject(json, name)
    for position in Self.far {
      var random = TestRandom("far \(subject.name)")
      let start = try subject.start(30, &random)
      let piece = try subject.piece(50, &random)
      var moved = start
      moved.position = position
      for cut in [1, 25, 50] {
        let near = try streamed(subject, piece, from: start, cut: cut).slice(10..<50, axis: 1)
        let there = try streamed(subject, piece, from: moved, cut: cut).slice(10..<50, axis: 1)
        try expectClose(there, near, Tolerance(ratio: 1e-4, floor: 1e-5), "\(subject.name) at \(position), cut \(cut)")
      }
    }
  }

  /// Rows count their own tokens where positions turn keys.
  @Test func countsGoOn() throws {
    let subject = try subject(#"{"num_heads": 2, "key_dim": 6}"#, "retnet")
    for position in Self.far {
      var random = TestRandom("far counts")
      var near = try subject.start(0, &random)
      near.position = 1
      let piece = try subject.piece(50, &random)
      var there = near
      there["tokens"] = try Tensor([Int64](repeating: Int64(position), count: 3), shape: [3])
      for cut in [1, 25, 50] {
        try expectClose(
          streamed(subject, piece, from: there, cut: cut), streamed(subject, piece, from: near, cut: cut),
          Tolerance(ratio: 1e-4, floor: 1e-5), "retnet at \(position), cut \(cut)")
      }
    }
    var damaged = try subject.mixer.initialState(batch: 3)
    damaged["tokens"] = try Tensor([Int64(-1), 0, .max], shape: [3])
    var random = TestRandom("damaged counts")
    let piece = try subject.piece(2, &random)
    #expect(throws: TensorError.self) { try subject.mixer(piece, state: &damaged) }
  }

  @Test func sinksAndDocumentsGoOn() throws {
    for json in [
      #"{"num_attention_heads": 2, "sliding_window": 9, "sinks": 2}"#,
      #"{"num_attention_heads": 2, "sliding_window": 9}"#,
    ] {
      let subject = try subject(json, "softmax_attention")
      for position in Self.far {
        var random = TestRandom("far documents \(json)")
        var start = try subject.start(30, &random)
        start.position = position
        let plain = try subject.piece(50, &random)
        var ragged = plain
        ragged.layout.resets = try random.flags([3, 50], probability: 0.05)
        ragged.layout.valid = try random.flags([3, 50], probability: 0.8)
        for piece in [plain, ragged] {
          let whole = try streamed(subject, piece, from: start, cut: 50)
          let shown = try piece.layout.valid?.cast(to: .float32).expanded(at: 2) ?? Tensor(1)
          #expect(try whole.floats().allSatisfy(\.isFinite))
          for cut in [1, 10] {
            let parts = try streamed(subject, piece, from: start, cut: cut)
            try expectClose(parts * shown, whole * shown, LawTolerance.outputs(.float32), "\(json) at \(position)")
          }
        }
      }
    }
  }

  /// Stored positions stay small in documents longer than any window.
  @Test func storedPositionsStaySmall() throws {
    let subject = try subject(#"{"num_attention_heads": 2, "sliding_window": 9, "sinks": 2}"#, "softmax_attention")
    var random = TestRandom("stored positions")
    var state = try subject.mixer.initialState(batch: 3)
    for _ in 0..<5 {
      var piece = try subject.piece(40, &random)
      piece.layout.valid = try Tensor.ones([3, 40], .uint8)
      _ = try subject.mixer(piece, state: &state)
    }
    #expect(try state.tensor("next_positions").values(as: Int32.self) == [10, 10, 10])
    #expect(try state.tensor("entry_positions").values(as: Int32.self).prefix(10) == (0..<10).map { Int32($0) }[...])
  }

  @Test(arguments: MixerExample.all) func impossibleStatesAreRefused(_ example: MixerExample) throws {
    for subject in try example.subjects() {
      var random = TestRandom("impossible \(subject.name)")
      let good = try subject.start(20, &random)
      let piece = try subject.piece(2, &random)
      for position in [Int.max, Int.min, -1, (1 << 60) - 1] {
        var bad = good
        bad.position = position
        try expectRefusal("\(subject.name) at \(position)") { _ = try subject.mixer(piece, state: &bad) }
        #expect(bad.position == position)
      }
      for name in good.names {
        for shape in [[1 << 59, 0], [1 << 59, 3, 0, 1 << 1], [0, 1 << 59, 2, 2], [], [20, 3, 1, 1]] {
          for position in [20, 1 << 59] {
            var bad = good
            bad.position = position
            bad[name] = try Tensor.zeros(shape, .float32)
            try expectRefusal("\(subject.name): \(name) \(shape)") { _ = try subject.mixer(piece, state: &bad) }
          }
        }
      }
    }
  }

  @Test func impossibleDocumentsAreRefused() throws {
    let subject = try subject(#"{"num_attention_heads": 2, "sliding_window": 9}"#, "softmax_attention")
    var random = TestRandom("impossible documents")
    var good = try subject.start(20, &random)
    var piece = try subject.piece(20, &random)
    piece.layout.valid = try random.flags([3, 20], probability: 0.8)
    _ = try subject.mixer(piece, state: &good)
    for name in ["next_positions", "padding", "entry_positions"] {
      let tensor = try good.tensor(name)
      let count = tensor.count
      let bad =
        name == "padding"
        ? [Tensor](
          try [Int64.max, Int64.min, -1, 41].map { try Tensor(Array(repeating: $0, count: count), shape: [3]) })
        : [Tensor](
          try [Int32.max, Int32.min, -2].map { try Tensor(Array(repeating: $0, count: count), shape: tensor.shape) })
      for value in bad {
        var state = good
        state[name] = value
        try expectRefusal("\(name) \(try value.floats().prefix(1))") {
          _ = try subject.mixer(subject.piece(2, &random), state: &state)
        }
      }
      var state = good
      state[name] = nil
      try expectRefusal("no \(name)") { _ = try subject.mixer(subject.piece(2, &random), state: &state) }
    }
  }
}
