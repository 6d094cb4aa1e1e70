import FermataFiles
import FermataMixers
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataModels

/// Every family against `transformers`, and against itself in pieces.
@Suite struct FamilyTests {
  static let tolerance = Tolerance(ratio: 1e-5, floor: 1e-6)

  @Test func goldensAreThere() {
    #expect(FamilyGolden.names.count >= 28)
    for family in FamilyRegistry.standard.families {
      let isCovered = FamilyGolden.names.contains { $0.hasPrefix(family.modelType) }
      #expect(isCovered, "no golden of \(family.modelType)")
    }
  }

  @Test(arguments: FamilyGolden.names) func agreesWithTransformers(_ name: String) throws {
    let (golden, scratch) = (try FamilyGolden(name), try ScratchFolder())
    try golden.write(to: scratch.path)
    try onEveryPath { path in
      let output = try ModelFolder.open(scratch.path).outputs(golden.inputs())
      let expected = try golden.expected()
      #expect(output.name == expected.name)
      try expectClose(golden.validRows(output.values), golden.validRows(expected.values), Self.tolerance, name)
    }
  }

  /// Whole, in pieces of uneven sizes, token by token, and with the state saved and loaded in the middle.
  @Test(arguments: FamilyGolden.names) func cutLaw(_ name: String) throws {
    let (golden, scratch) = (try FamilyGolden(name), try ScratchFolder())
    try golden.write(to: scratch.path)
    let opened = try ModelFolder.open(scratch.path)
    let inputs = try golden.inputs()
    var found = opened as? any CausalModel
    if let pair = opened as? any EncoderDecoderModel { found = try pair.decoder(reading: inputs) }
    guard let model = found else { return }
    func check(_ causal: some CausalModel) throws {
      var model = causal
      let tokens = inputs.decoderTokens ?? inputs.tokens
      let (batch, length) = (tokens.shape[0], tokens.shape[1])
      // Lengths on which a scaling depends are fixed before the first token.
      try model.fix(length: length)
      let valid = inputs.decoderTokens == nil ? inputs.valid : nil
      let layout = Layout(batch: batch, length: length, valid: valid)
      var state = try model.initialState(batch: batch)
      let whole = try model.hidden(tokens, layout: layout, state: &state)
      for sizes in [[1], [7, 1, 12], [13]] {
        var (piecewise, start, step) = (try model.initialState(batch: batch), 0, 0)
        var parts: [Tensor] = []
        while start < length {
          let range = start..<min(length, start + sizes[step % sizes.count])
          if start > 0, step == 3 {
            try StateFile.save(piecewise.compacted(), of: model, to: scratch.path + "/state")
            piecewise = try StateFile.load(scratch.path + "/state", for: model, batch: batch)
          }
          parts.append(
            try model.hidden(tokens.slice(range, axis: 1).contiguous(), layout: layout.slice(range), state: &piecewise))
          (start, step) = (range.upperBound, step + 1)
        }
        let joined = try Tensor.concatenated(parts, axis: 1)
        try expectClose(joined, whole, Tolerance(ratio: 1e-5, floor: 1e-6), "\(name) in pieces of \(sizes)")
        #expect(piecewise.position == length && state.position == length)
      }
      if valid == nil {
        let expected = model.stateBytes(batch: batch, length: length)
        let context = state.layers.reduce(0) { $0 + ($1["context_keys"]?.byteCount ?? 0) * 2 }
        #expect(state.byteCount - context == expected, "\(name): state bytes")
      }
    }
    try check(model)
  }

  @Test func bfloat16IsNear() throws {
    for name in ["llama", "gemma2", "qwen3", "gpt2", "bert", "bart"] {
      let (golden, scratch) = (try FamilyGolden(name), try ScratchFolder())
      try golden.write(to: scratch.path)
      let output = try ModelFolder.open(scratch.path, as: .bfloat16).outputs(golden.inputs())
      #expect(output.values.dtype == .float32)
      try expectClose(
        golden.validRows(output.values), golden.validRows(golden.expected().values),
        Tolerance(ratio: 4e-2, floor: 1e-2),
        "\(name) in bf16")
    }
  }

  /// The number of the last token that a length-dependent scaling was fixed for decides; nothing else does.
  @Test func lengthsAreFixedBefore() throws {
    let (golden, scratch) = (try FamilyGolden("llama_dynamic"), try ScratchFolder())
    try golden.write(to: scratch.path)
    var model = try #require(try ModelFolder.open(scratch.path) as? any CausalModel)
    #expect(model.dependsOnLength)
    try model.fix(length: 90)
    var state = try model.initialState(batch: 2)
    let tokens = try golden.inputs().tokens
    let first = try model.hidden(tokens.slice(0..<40, axis: 1).contiguous(), layout: nil, state: &state)
    let logits = try model.languageHead().logits(first)
    try expectClose(
      logits, golden.expected().values.slice(0..<40, axis: 1).contiguous(), Self.tolerance, "the first 40 of 90 tokens")
    let plain = try FamilyGolden("llama")
    try plain.write(to: scratch.path)
    #expect(try (ModelFolder.open(scratch.path) as? any CausalModel)?.dependsOnLength == false)
  }
}
