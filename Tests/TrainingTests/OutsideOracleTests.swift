import FermataFiles
import FermataLayers
import FermataMixers
import FermataModels
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataTraining

/// PyTorch's logits, gradients and AdamW losses from the same weights and batches (Tests/Goldens).
@Suite(.serialized) struct OutsideOracleTests {
  /// Relative error allowed against PyTorch, f32.
  static let tolerance = 1e-4

  private struct Golden {
    let tensors: [String: Tensor]

    init?(_ name: String) throws {
      let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Goldens/\(name).safetensors").path
      guard FileManager.default.fileExists(atPath: path) else {
        print("SKIPPED golden: \(name) (no file \(path))")
        return nil
      }
      tensors = try TensorFile.read(path)
    }

    func tensor(_ name: String) throws -> Tensor { try #require(tensors[name], "golden tensor \(name)") }

    /// A group of tensors under our names: projections that PyTorch holds apart stand in one product here.
    func group(_ prefix: String) throws -> [String: Tensor] {
      var found = Dictionary(
        uniqueKeysWithValues: tensors.filter { $0.key.hasPrefix(prefix) }.map {
          (String($0.key.dropFirst(prefix.count)), $0.value)
        })
      func fuse(_ parts: [String], _ name: String) throws {
        let values = parts.compactMap { found.removeValue(forKey: $0) }
        if values.count == parts.count { found[name] = try Tensor.concatenated(values, axis: 0) }
      }
      for layer in 0..<2 {
        let base = "model.layers.\(layer)."
        try fuse(["q", "k", "v"].map { base + "self_attn.\($0)_proj.weight" }, base + "mixer.qkv_proj.weight")
        try fuse([base + "self_attn.o_proj.weight"], base + "mixer.o_proj.weight")
        try fuse(["gate", "up"].map { base + "mlp.\($0)_proj.weight" }, base + "mlp.gate_up_proj.weight")
      }
      return found
    }
  }

  private func model(_ golden: Golden, mixer: JSONValue) throws -> LanguageModel {
    let configuration = try ModelConfiguration(
      vocabularySize: 64, width: 32, layers: 2, feedForwardWidth: 48, mixers: [mixer], tiesEmbeddings: false,
      tokenizer: "none", beginToken: 0)
    var model = try LanguageModel(configuration)
    let weights = try golden.group("weights/")
    var missing: [String] = []
    try model.updateParameters { name, value in
      guard let weight = weights[name], weight.shape == value.shape else { return missing.append(name) }
      value = weight
    }
    #expect(missing.isEmpty, "parameters without a golden weight")
    return model
  }

  private func piece(_ golden: Golden, _ index: Int) throws -> TokenPiece {
    let tokens = try golden.tensor("batch/input_ids").select(index, axis: 0).contiguous()
    let targets = try golden.tensor("batch/targets").select(index, axis: 0).contiguous()
    return TokenPiece(tokens: tokens, targets: targets, layout: Layout(batch: 2, length: 24))
  }

  private func expectClose(_ a: Tensor, _ b: Tensor, _ name: String) throws {
    let (x, y) = (try a.floats(), try b.floats())
    #expect(x.count == y.count)
    let error = zip(x, y).reduce(0.0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }.squareRoot()
    let norm = y.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
    #expect(error <= Self.tolerance * norm + 1e-9, "\(name): relative error \(error / norm)")
  }

  static let models: [(String, JSONValue)] = [
    ("transformer", ["type": "softmax_attention", "num_attention_heads": 4, "num_key_value_heads": 2]),
    ("lstm", ["type": "lstm"]),
  ]

  @Test(arguments: models) func agreesWithPyTorch(_ name: String, _ mixer: JSONValue) throws {
    guard let golden = try Golden(name) else { return }
    try onEveryPath { path in
      var model = try model(golden, mixer: mixer)
      // Logits
      let first = try piece(golden, 0)
      var state = try model.initialState(batch: 2)
      try expectClose(model.logits(first.tokens, state: &state), golden.tensor("logits"), "\(name) logits on \(path)")
      // Every gradient
      let mean = 1 / Float(48)
      let found = try PiecewiseGradient.truncated(model, first, state: model.initialState(batch: 2), scale: mean)
      let expected = try golden.group("gradients/")
      #expect(Set(found.gradients.keys) == Set(expected.keys))
      for (parameter, gradient) in expected {
        try expectClose(#require(found.gradients[parameter]), gradient, "\(name) gradient of \(parameter) on \(path)")
      }
      // Twenty AdamW losses
      var optimizer = AdamW(beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1)
      let losses = try golden.tensor("losses").floats()
      for step in 0..<20 {
        let result = try PiecewiseGradient.truncated(
          model, piece(golden, step), state: model.initialState(batch: 2), scale: mean)
        let loss = result.loss / 48
        #expect(
          abs(loss - Double(losses[step])) <= Self.tolerance * Double(losses[step]),
          "\(name) loss of step \(step) on \(path): \(loss), PyTorch \(losses[step])")
        try optimizer.update(&model, gradients: result.gradients, learningRate: 1e-2)
      }
      for (parameter, value) in try golden.group("final/") {
        if let ours = try model.parameters().first(where: { $0.name == parameter })?.value {
          try expectClose(ours, value, "\(name) final \(parameter) on \(path)")
        }
      }
    }
  }
}
