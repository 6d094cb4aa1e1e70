import FermataFiles
import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

/// The state spaces against their authors' code (Tests/Goldens/README.md says whose): outputs and every gradient.
@Suite struct StateSpaceGoldenTests {
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var options: String
    var testDescription: String { name }
  }

  static let cases = [
    Case(name: "s4", options: #"{"state_size": 8}"#), Case(name: "s4d", options: #"{"state_size": 8}"#),
    Case(name: "s5", options: #"{"state_size": 8}"#),
    Case(name: "h3", options: #"{"state_size": 8, "head_dim": 2}"#),
  ]

  @Test(.enabled("a golden file is missing") { cases.allSatisfy { Golden.exists($0.name) } }, arguments: cases)
  func givesTheAuthorsAnswers(_ example: Case) throws {
    let golden = try Golden(example.name)
    guard case .object(var fields) = try StrictJSON.parse(Array(example.options.utf8), place: "options") else {
      throw Mismatch("\(example.options) is no object")
    }
    fields["type"] = .string(example.name)
    let input = try golden("input")
    var random = RandomSource(seed: 1)
    let fresh = try MixerRegistry.standard.make(
      width: input.shape[2], configuration: .object(fields), random: &random)
    try check(fresh, golden, input, example.name)
  }

  private func check(_ fresh: some Mixer, _ golden: Golden, _ input: Tensor, _ label: String) throws {
    var mixer = fresh
    try mixer.updateParameters { name, value in
      let weight = try golden("weights/\(name)")
      guard weight.shape == value.shape else { throw Mismatch("\(label): \(name) is \(value), golden \(weight)") }
      value = weight
    }
    try onEveryPath { path in
      let (tracked, leaf) = (try mixer.tracked(), input.tracked())
      var state = try tracked.initialState(batch: input.shape[0])
      let output = try tracked(Piece(leaf), state: &state)
      let found = try gradients(of: [(output, golden("doutput"))])
      try expectClose(output.detached, golden("output"), .fused(.float32), "\(label) output")
      let named = try [("dinput", leaf)] + tracked.parameters().map { ("gradients/\($0.name)", $0.value) }
      for (name, value) in named {
        guard let gradient = found[value] else { throw Mismatch("\(label): no \(name)") }
        try expectClose(gradient, golden(name), .fusedGradient(.float32), "\(label) \(name)")
      }
    }
  }
}
