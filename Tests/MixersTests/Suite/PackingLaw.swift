import FermataMixers
import FermataTensors
import FermataTestSupport

/// Documents packed into one row, and padding beside them, change nothing.
extension Subject {
  /// Documents in one row, cut anywhere, give what each gives alone.
  func packsDocuments() throws {
    var random = TestRandom("packing \(name)")
    // Where documents begin, row by row; the first row's first document has one token, the second row has one document.
    let starts = [[0, 1, 20, 21, 50], [0], [0, 33]]
    let length = 80
    var piece = try self.piece(length, &random, batch: starts.count)
    var resets = [UInt8](repeating: 0, count: starts.count * length)
    for (row, begins) in starts.enumerated() { for begin in begins { resets[row * length + begin] = 1 } }
    piece.layout.resets = try Tensor(resets, shape: [starts.count, length])
    guard features.contains(.packing) else {
      return try expectRefusal("\(name): document starts") {
        _ = try outputs(piece, state: start(0, &random, batch: 3))
      }
    }
    // What came before the first document is forgotten, too.
    let isStream = mixer.laws.cut != .none
    let before = try start(isStream ? 13 : 0, &random, batch: starts.count)
    let next = try self.piece(6, &random, batch: starts.count)
    for cuts in [[length]] + (isStream ? cuttings(length, &random) : []) {
      var state = before
      let packed = try outputs(piece, cuts: cuts, state: &state)
      let after = isStream ? try mixer(next, state: &state) : nil
      for (row, begins) in starts.enumerated() {
        for (index, begin) in begins.enumerated() {
          let end = index + 1 < begins.count ? begins[index + 1] : length
          var alone = try mixer.initialState(batch: 1)
          let label = "\(name): row \(row), tokens \(begin)..<\(end), cut \(cuts.prefix(4))"
          let expected = try mixer(part(piece, row, begin..<end), state: &alone)
          try expectClose(
            part(packed, row, begin..<end), expected, LawTolerance.outputs(.float32), label)
          guard end == length, let after else { continue }
          try expectClose(
            part(after, row, 0..<6), mixer(part(next, row, 0..<6), state: &alone), LawTolerance.outputs(.float32),
            "\(label), continued")
        }
      }
    }
  }

  /// Rows of unlike lengths, padded on either side, give what each gives alone, then and afterwards.
  func ignoresPadding() throws {
    var random = TestRandom("padding \(name)")
    let length = 50
    // Valid tokens of each row: padding on the right, on the left, on both sides.
    let spans = [0..<31, 12..<50, 5..<44]
    var piece = try self.piece(length, &random, batch: spans.count)
    let marks = spans.flatMap { span in (0..<length).map { UInt8(span.contains($0) ? 1 : 0) } }
    piece.layout.valid = try Tensor(marks, shape: [spans.count, length])
    guard features.contains(.padding) else {
      return try expectRefusal("\(name): padding") { _ = try outputs(piece, state: start(0, &random, batch: 3)) }
    }
    let isStream = mixer.laws.cut != .none
    let next = try self.piece(14, &random, batch: spans.count)
    for cuts in [[length]] + (isStream ? cuttings(length, &random) : []) {
      var state = try mixer.initialState(batch: spans.count)
      let padded = try outputs(piece, cuts: cuts, state: &state)
      let after = isStream ? try mixer(next, state: &state) : nil
      for (row, span) in spans.enumerated() {
        let label = "\(name): row \(row), valid \(span), cut \(cuts.prefix(4))"
        var alone = try mixer.initialState(batch: 1)
        let expected = try mixer(part(piece, row, span), state: &alone)
        try expectClose(part(padded, row, span), expected, LawTolerance.outputs(.float32), label)
        guard let after else { continue }
        try expectClose(
          part(after, row, 0..<14), mixer(part(next, row, 0..<14), state: &alone), LawTolerance.outputs(.float32),
          "\(label), continued")
      }
    }
    if isStream { try isUnmovedByPadding() }
  }

  /// Padding may hold NaN, infinities and numbers that overflow: valid tokens have the outputs and the gradients that they have
  /// without it, and weights too.
  func ignoresWhatPaddingHolds() throws {
    guard features.contains(.padding), mixer.laws.cut != .none else { return }
    var random = TestRandom("padding's values \(name)")
    let length = 64
    let spans = [[0..<31, 50..<64], [12..<64], [5..<44, 45..<59]]
    var piece = try self.piece(length, &random, batch: spans.count)
    let marks = spans.flatMap { spans in (0..<length).map { at in UInt8(spans.contains { $0.contains(at) } ? 1 : 0) } }
    let valid = try Tensor(marks, shape: [spans.count, length])
    let garbage = try Tensor([Float.nan, .infinity, -.infinity, 3e38], shape: [1, 4, 1])
      .broadcast(to: [length / 4, 4, width]).reshaped([1, length, width])
    let shown = try valid.expanded(at: 2)
    let clean = piece.values
    piece.values = try Tensor.selecting(shown, clean, garbage)
    piece.layout.valid = valid
    let start = try mixer.initialState(batch: spans.count)
    var seeds = try PiecewiseRun.Seeds(clean, MixerState(), &random)
    seeds.outputs = try seeds.outputs * shown.cast(to: .float32)
    func gathered(_ x: Tensor, _ row: Int) throws -> Tensor {
      try Tensor.concatenated(spans[row].map { try part(x, row, $0) }, axis: 1)
    }
    let alone = try spans.indices.map { row in
      var own = seeds
      own.outputs = try gathered(seeds.outputs, row)
      let values = try Piece(gathered(clean, row))
      return try PiecewiseRun(mixer, values, from: mixer.initialState(batch: 1), cuts: [values.length], seeds: own)
    }
    for cuts in [[length], [1, 2, 10, 20, 11]] {
      let label = "\(name): garbage in padding, cut \(cuts.prefix(4))"
      let run = try PiecewiseRun(mixer, piece, from: start, cuts: cuts, seeds: seeds)
      let gradient = try run.input ?? Tensor.zeros(clean.shape)
      for row in spans.indices {
        try expectClose(
          gathered(run.outputs, row), alone[row].outputs, LawTolerance.outputs(.float32), "\(label): row \(row)")
        try expectClose(
          gathered(gradient, row), alone[row].input ?? Tensor.zeros(alone[row].outputs.shape),
          LawTolerance.gradients(.float32), "\(label): input gradient of row \(row)")
      }
      let hidden = try Tensor.selecting(shown, Tensor.zeros([]), gradient)
      try expectClose(hidden, Tensor.zeros(clean.shape), .exact, "\(label): input gradient of padding")
      for (parameter, value) in run.parameters {
        let sum = try alone.compactMap { $0.parameters[parameter] }.reduce(Tensor.zeros(value.shape)) { try $0 + $1 }
        try expectClose(value, sum, LawTolerance.gradients(.float32), "\(label): gradient of \(parameter)")
      }
    }
  }

  /// A piece of nothing but padding changes nothing of what follows.
  private func isUnmovedByPadding() throws {
    var random = TestRandom("only padding \(name)")
    let start = try self.start(21, &random)
    var nothing = try self.piece(8, &random)
    nothing.layout.valid = try Tensor.zeros([batch, 8], .uint8)
    var moved = start
    _ = try mixer(nothing, state: &moved)
    for initial in try mixer.initialState(batch: batch).names {
      try expectSameBits(moved.tensor(initial), start.tensor(initial), "\(name): \(initial) after padding alone")
    }
    let next = try self.piece(12, &random)
    try expectClose(
      outputs(next, state: moved), outputs(next, state: start), LawTolerance.outputs(.float32),
      "\(name): what follows padding alone")
  }

  /// Gradients through documents, and through documents and padding, whole against cut.
  func cutsRaggedGradients() throws {
    guard mixer.laws.cut != .none else { return }
    for layout in [Features.packing, .all] where features.isSuperset(of: layout) { try cutsRaggedGradients(layout) }
  }

  private func cutsRaggedGradients(_ layout: Features) throws {
    var random = TestRandom("ragged gradients \(name) \(layout.rawValue)")
    let length = 40
    let start = try self.start(6, &random)
    var piece = try self.piece(length, &random)
    piece.layout.resets = try random.flags([batch, length], probability: 0.1)
    if layout.contains(.padding) { piece.layout.valid = try random.flags([batch, length], probability: 0.8) }
    var final = start
    let outputs = try mixer(piece, state: &final)
    var seeds = try PiecewiseRun.Seeds(outputs, final, &random)
    // Outputs of padding mean nothing, and entries that nobody sees later may hold anything.
    let shown = try piece.layout.valid?.cast(to: .float32).expanded(at: 2) ?? Tensor(1)
    seeds.outputs = try seeds.outputs * shown
    if let entries = final["entry_positions"] {
      let live = try (Tensor.zeros([], .int32) .<= entries).cast(to: .float32).transposed(0, 1)
      for name in ["keys", "values"] {
        seeds.final[name] = try seeds.final[name].map { try $0 * live.reshaped(live.shape + [1, 1]) }
      }
    }
    let whole = try PiecewiseRun(mixer, piece, from: start, cuts: [length], seeds: seeds)
    for cuts in cuttings(length, &random) {
      var cut = try PiecewiseRun(mixer, piece, from: start, cuts: cuts, seeds: seeds)
      cut.outputs = try Tensor.selecting(
        piece.layout.valid?.expanded(at: 2) ?? Tensor.ones([1], .uint8), cut.outputs, whole.outputs)
      try cut.hidingDeadEntries().expectSame(
        as: whole.hidingDeadEntries(), .float32, "\(name): documents and padding, cut \(cuts.prefix(5))")
    }
  }

  private func part(_ piece: Piece, _ row: Int, _ range: Range<Int>) throws -> Piece {
    try Piece(
      part(piece.values, row, range), context: piece.context?.slice(row..<row + 1, axis: 0).contiguous())
  }

  private func part(_ x: Tensor, _ row: Int, _ range: Range<Int>) throws -> Tensor {
    try x.slice(row..<row + 1, axis: 0).slice(range, axis: 1).contiguous()
  }
}

extension PiecewiseRun {
  /// Entries that no later token sees, set to zero: which ones stand there may depend on nothing, but they mean nothing.
  fileprivate func hidingDeadEntries() throws -> PiecewiseRun {
    guard let positions = final["entry_positions"] else { return self }
    let live = try (Tensor.zeros([], .int32) .<= positions).transposed(0, 1).contiguous()
    var copy = self
    for name in ["keys", "values"] {
      let entries = try final.tensor(name)
      copy.final[name] = try Tensor.selecting(
        live.reshaped(live.shape + [1, 1]), entries, Tensor.zeros([], entries.dtype))
    }
    return copy
  }
}
