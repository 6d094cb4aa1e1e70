import FermataMixers
import FermataTensors
import FermataTestSupport

/// The cut law, causality, numeric types and threads.
extension Subject {
  /// Whole, token by token, in tiles and at random: outputs, final state and every gradient are the same.
  func keepsCutLaw(length: Int, from prefix: Int, _ dtype: DType = .float32) throws {
    if mixer.laws.cut == .none { return try declaresNoCuts() }
    var random = TestRandom("cut \(name) \(length) \(prefix) \(dtype)")
    let start = try self.start(prefix, &random, dtype)
    let piece = try self.piece(length, &random, dtype)
    var final = start
    let outputs = try mixer(piece, state: &final)
    let seeds = try PiecewiseRun.Seeds(outputs, final, &random)
    let whole = try PiecewiseRun(mixer, piece, from: start, cuts: [length], seeds: seeds)
    for cuts in cuttings(length, &random) {
      // In bf16 each piece rounds the gradients it hands back, so the finest cut is compared in f32 only.
      if dtype == .bfloat16 && cuts.allSatisfy({ $0 < 4 }) { continue }
      let cut = try PiecewiseRun(mixer, piece, from: start, cuts: cuts, seeds: seeds)
      try cut.expectSame(as: whole, dtype, "\(name), \(length) tokens cut \(cuts.prefix(5))")
    }
  }

  /// A mixer of scope `none` must say no to a second piece.
  private func declaresNoCuts() throws {
    var random = TestRandom("no cut \(name)")
    var state = try mixer.initialState(batch: batch)
    _ = try mixer(piece(5, &random), state: &state)
    let before = state
    try expectRefusal("\(name): a second piece") { _ = try mixer(piece(5, &random), state: &state) }
    try expectIdenticalState(state, before, "\(name): state after the refusal")
  }

  /// Changing a token changes nothing before it, and something from it on.
  func isCausal() throws {
    if mixer.laws.cut == .none { return }
    var random = TestRandom("causality \(name)")
    let length = 70
    let start = try self.start(3, &random)
    let piece = try self.piece(length, &random)
    let before = try outputs(piece, state: start)
    for token in [0, 1, 31, 64, length - 1] {
      var changed = piece
      let (head, tail) = (0..<token, token + 1..<length)
      changed.values = try Tensor.concatenated(
        [piece.values.slice(head, axis: 1), values(1, &random), piece.values.slice(tail, axis: 1)], axis: 1)
      let after = try outputs(changed, state: start)
      try expectSameBits(
        after.slice(head, axis: 1).contiguous(), before.slice(head, axis: 1).contiguous(),
        "\(name): outputs before a changed token \(token)")
      let change: Tensor = try after - before
      let difference = try change.slice(token..<token + 1, axis: 1).absolute().sum().item()
      if !(difference > 0) { throw Mismatch("\(name): token \(token) does not change its own output") }
    }
  }

  /// bf16 in, bf16 out, near the f32 outputs; a state that does not grow stays f32.
  func keepsTypes() throws {
    var random = TestRandom("types \(name)")
    let piece = try self.piece(40, &random)
    let mixer = try withChoices(for: piece).mixer
    var first = try start(0, &random, batch: batch)
    let wide = try mixer(piece, state: &first)
    var low = piece
    low.values = try piece.values.cast(to: .bfloat16)
    low.context = try piece.context?.cast(to: .bfloat16)
    guard regionLength == 0 else { return }
    let initial = try mixer.initialState(batch: batch)
    var state = initial
    let narrow = try mixer(low, state: &state)
    if narrow.dtype != .bfloat16 { throw Mismatch("\(name): bf16 pieces give \(narrow.dtype)") }
    try expectClose(
      narrow.cast(to: .float32), wide, Tolerance(ratio: 3e-2, floor: 1e-3, spread: 40), "\(name): bf16 against f32")
    for (tensorName, tensor) in initial.tensors where tensor.dtype.isFloatingPoint {
      let after = try state.tensor(tensorName)
      if after.dtype != .float32 { throw Mismatch("\(name): recurrent state '\(tensorName)' is \(after.dtype)") }
    }
  }

  /// With weights in bf16 the mixer still keeps its types and laws, near what it was; coefficients keep every bit.
  func keepsLawsWhenConverted() throws {
    var random = TestRandom("converted \(name)")
    var converted = self
    converted.mixer = try mixer.converted(to: .bfloat16)
    var (copy, before) = (converted.mixer, try mixer.parameters().map(\.value)[...])
    try copy.updateParametersByRole { parameter, role, value in
      let expected = before.removeFirst()
      if role == .coefficient { try expectSameBits(value, expected, "\(name): converted \(parameter)") }
      if role == .weight && value.dtype != .bfloat16 { throw Mismatch("\(name): \(parameter) is \(value.dtype)") }
    }
    try converted.keepsTypes()
    try converted.keepsMergeLaw()
    let piece = try self.piece(70, &random)
    let original = try withChoices(for: piece)
    converted = try converted.withChoices(for: piece)
    let start = try original.start(0, &random)
    let outputs = try converted.outputs(piece, state: start)
    try expectClose(
      outputs, original.outputs(piece, state: start), Tolerance(ratio: 3e-2, floor: 1e-3, spread: 40),
      "\(name): weights in bf16")
    // Weights are only other numbers: with activations in f32 the cut law holds to f32's rounding.
    if mixer.laws.cut == .none { return }
    converted.mixer = try mixer.converted(to: .bfloat16)
    var (whole, cut) = (start, start)
    let expected = try converted.outputs(piece, cuts: [], state: &whole)
    try expectClose(
      converted.outputs(piece, cuts: [1, 1, 2, 63], state: &cut), expected, LawTolerance.outputs(.float32),
      "\(name): converted, cut")
    try expectSameState(cut, whole, LawTolerance.state(.float32), "\(name): converted, cut")
  }

  /// The same bits with one thread and with several, gradients included.
  func ignoresThreads() throws {
    var random = TestRandom("threads \(name)")
    let start = try self.start(mixer.laws.cut == .none ? 0 : 3, &random)
    let piece = try self.piece(67, &random)
    var final = start
    let outputs = try mixer(piece, state: &final)
    let seeds = try PiecewiseRun.Seeds(outputs, final, &random)
    try expectThreadsDoNotMatter(name) {
      let run = try PiecewiseRun(mixer, piece, from: start, cuts: [67], seeds: seeds)
      let states = try run.final.names.map { try run.final.tensor($0) }
      let parameters = run.parameters.keys.sorted().compactMap { run.parameters[$0] }
      let initial = run.initial.keys.sorted().compactMap { run.initial[$0] }
      return [run.outputs] + (run.input.map { [$0] } ?? []) + states + parameters + initial
    }
  }
}
