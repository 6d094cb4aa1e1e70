import FermataFiles
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataModels

/// Damaged and hostile model folders: whatever is changed, opening and running a model throws or works, and takes no memory
/// that the files do not justify. A million changes with FERMATA_LONG_TESTS=1 take some minutes.
@Suite struct FamilyFuzzTests {
  private static let isLong = ProcessInfo.processInfo.environment["FERMATA_LONG_TESTS"] == "1"
  private static let values: [JSONValue] = [
    0, 1, -1, 2, 3, 5, 41, 64, 1000, .int(Int.max), .int(Int.min), .int(1 << 32), .int(1 << 40), 0.5,
    .double(.leastNonzeroMagnitude), 1e308,
    .double(.infinity), .double(.nan), "", "x", "gelu", "sliding_attention", true, false, .null, [], [1], ["x"], [:],
    ["rope_type": "dynamic", "factor": 2], ["type": "yarn", "factor": 0.1], ["rope_type": "longrope"],
    ["rope_theta": 1e308], ["rope_type": "llama3", "factor": 1e300, "low_freq_factor": 1, "high_freq_factor": 2],
  ]

  /// Opens a folder and, where that works, runs the model.
  private func tryOut(_ path: String, _ inputs: ModelInputs) {
    let (_, peak, _) = Memory.measure {
      do {
        _ = try ModelFolder.open(path).outputs(inputs)
      } catch {}
    }
    #expect(peak < 64 << 20)
  }

  @Test func changedConfigurations() throws {
    let rounds = Self.isLong ? 30_000 : 40
    for name in ["llama", "gemma2", "gpt2", "bert", "bart", "qwen3"] {
      let (golden, scratch) = (try FamilyGolden(name), try ScratchFolder())
      try golden.write(to: scratch.path)
      let keys = (golden.config.objectValue ?? [:]).keys.sorted() + ["sliding_window", "rope_scaling", "head_dim"]
      let inputs = try golden.inputs()
      var random = TestRandom("configurations \(name)")
      for _ in 0..<rounds {
        var object = golden.config.objectValue ?? [:]
        for _ in 0..<random.int(1...2) {
          object[keys[random.int(0...keys.count - 1)]] = Self.values[random.int(0...Self.values.count - 1)]
        }
        try Data(JSONValue.object(object).text(namesNonFinite: true).utf8)
          .write(to: URL(fileURLWithPath: scratch.path + "/config.json"))
        tryOut(scratch.path, inputs)
      }
    }
  }

  @Test func changedBytes() throws {
    let rounds = Self.isLong ? 100_000 : 60
    let (golden, scratch) = (try FamilyGolden("llama"), try ScratchFolder())
    try golden.write(to: scratch.path)
    let inputs = try golden.inputs()
    for name in ["model.safetensors", "config.json"] {
      let file = URL(fileURLWithPath: scratch.path + "/" + name)
      let whole = try Data(contentsOf: file)
      // Of weights, the header is what matters.
      let reach = min(whole.count, 4000)
      var random = TestRandom("bytes \(name)")
      for _ in 0..<rounds {
        var bytes = whole
        for _ in 0..<random.int(1...3) {
          switch random.int(0...3) {
          case 0: bytes[random.int(0...reach - 1)] = UInt8(random.int(0...255))
          case 1: bytes[random.int(0...reach - 1)] ^= 1 << UInt8(random.int(0...7))
          case 2: bytes = bytes.prefix(max(4000, random.int(0...bytes.count)))
          default:
            let place = random.int(0...reach - 1)
            bytes.replaceSubrange(place..<place + 1, with: Data("9".utf8))
          }
        }
        // A new file: the old one may still be mapped.
        try FileManager.default.removeItem(at: file)
        try bytes.write(to: file)
        tryOut(scratch.path, inputs)
      }
      try FileManager.default.removeItem(at: file)
      try whole.write(to: file)
    }
  }
}
