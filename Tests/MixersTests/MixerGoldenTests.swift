import FermataFiles
import FermataLayers
import FermataMixers
import FermataTensors
import FermataTestSupport
import Testing

/// Whole mixers against public reference code: outputs, and gradients of inputs and weights.
@Suite struct MixerGoldenTests {
  static let names = [
    "linear_attention", "linear_attention_norm", "retnet", "lightning_attention", "gated_linear_attention",
    "delta_rule",
    "delta_rule_negative", "gated_delta_rule", "gated_delta_rule_convolution", "based", "mixture_of_memories",
    "mamba", "mamba_biases", "mamba2", "mamba2_groups",
  ]

  @Test(arguments: names) func givesTheReferencesAnswers(_ name: String) throws {
    guard Golden.exists("Mixers/\(name)") else { throw Mismatch("the golden file of \(name) is missing") }
    let golden = try Golden("Mixers/\(name)")
    let input = try golden("input")
    var random = RandomSource(seed: 1)
    let made = try MixerRegistry.standard.make(
      width: input.shape[2], configuration: golden.fact("mixer"), random: &random)
    try compare(made, input, golden, name)
  }

  private func compare(_ made: any Mixer, _ input: Tensor, _ golden: Golden, _ name: String) throws {
    var mixer = made
    try mixer.updateParameters { key, value in
      let stored = try golden("weights/\(key)")
      guard stored.shape == value.shape else { throw Mismatch("\(name): \(key) is \(stored), expected \(value)") }
      value = stored.tracked()
    }
    // The reference computes in f32 itself.
    let (near, nearGradient) = (Tolerance(ratio: 1e-5, floor: 1e-6), Tolerance(ratio: 3e-5, floor: 1e-5))
    let trained = mixer
    try onEveryPath { _ in
      let leaf = input.tracked()
      var state = try trained.initialState(batch: 1)
      let output = try trained(Piece(leaf), state: &state)
      try expectClose(output.detached, golden("output"), near, "\(name): output")
      let found = try gradients(of: [(output, golden("doutput"))])
      try expectClose(found[leaf] ?? Tensor.zeros(input.shape), golden("dinput"), nearGradient, "\(name): dinput")
      for (key, value) in try trained.parameters() {
        guard let gradient = found[value] else { throw Mismatch("\(name): no gradient of \(key)") }
        try expectClose(gradient, golden("gradients/\(key)"), nearGradient, "\(name): gradient of \(key)")
      }
    }
  }
}
