import FermataFiles
import FermataModels
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataInference

/// Beam search against what `transformers` writes with a small BART.
@Suite struct BeamSearchTests {
  private static let golden = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Goldens/families/bart.safetensors").path

  /// The golden's model, from a folder that is gone again once its weights are mapped.
  private func model(_ file: SafetensorsFile) throws -> any EncoderDecoderModel {
    let folder = NSTemporaryDirectory() + "fermata-beams-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try Data((file.metadata["config"] ?? "").utf8).write(to: URL(fileURLWithPath: folder + "/config.json"))
    let weights = try file.entries.filter { $0.name.hasPrefix("weights/") }
      .map { (String($0.name.dropFirst(8)), try TensorFile.tensor($0, of: file)) }
    try TensorFile.write(weights, to: folder + "/model.safetensors")
    return try #require(try ModelFolder.open(folder) as? any EncoderDecoderModel)
  }

  private static let settings: [(String, @Sendable (inout BeamOptions) -> Void)] = [
    ("greedy", { $0.beams = 1 }), ("beams", { $0.beams = 4 }),
    (
      "beams_long",
      {
        ($0.beams, $0.lengthPenalty, $0.stopsEarly, $0.minimum) = (3, 2, true, 6)
      }
    ),
    ("beams_fresh", { ($0.beams, $0.lengthPenalty, $0.unrepeatedRun, $0.forcedBegin) = (2, 0.5, 2, 7) }),
  ]

  @Test func agreesWithTransformers() throws {
    let file = try SafetensorsFile(Self.golden)
    let model = try model(file)
    func values(_ name: String) throws -> [Int32] {
      try TensorFile.tensor(#require(file.entry(name)), of: file).values(as: Int32.self)
    }
    let (tokens, mask) = (try values("input_ids"), try values("attention_mask"))
    for row in 0..<2 {
      let kept = (0..<17).filter { mask[row * 17 + $0] == 1 }.map { tokens[row * 17 + $0] }
      let decoder = try model.decoder(reading: ModelInputs(tokens: Tensor(kept, shape: [1, kept.count])))
      for (name, set) in Self.settings {
        var options = BeamOptions()
        (options.limit, options.endTokens, options.forcedEnd) = (15, [2], 2)
        set(&options)
        var session = try StreamingSession(decoder)
        try session.read([model.startToken])
        let found = try BeamSearch.run(session, options: options).tokens
        let expected = try values("generated/\(name)/\(row)").dropFirst().map { Int($0) }
        #expect(found == expected.filter { $0 != 2 }, "\(name) \(row)")
      }
    }
  }

  @Test func wrongOptionsThrow() throws {
    let model = try model(SafetensorsFile(Self.golden))
    let decoder = try model.decoder(reading: ModelInputs(tokens: Tensor([3, 4] as [Int32], shape: [1, 2])))
    var session = try StreamingSession(decoder)
    #expect(throws: TensorError.self) { try BeamSearch.run(session, options: BeamOptions()) }
    try session.read([2])
    var options = BeamOptions()
    options.beams = 0
    #expect(throws: TensorError.self) { try BeamSearch.run(session, options: options) }
    options.beams = 2
    options.limit = 0
    #expect(try BeamSearch.run(session, options: options).tokens.isEmpty)
  }
}
