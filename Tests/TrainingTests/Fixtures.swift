import FermataFiles
import FermataModels
import FermataTasks
import FermataTensors
import Foundation

@testable import FermataTraining

/// Small models and texts for these tests.
enum Fixture {
  static let linear: JSONValue = ["type": "gated_linear_attention", "num_heads": 2]
  static let scalar: JSONValue = ["type": "gated_linear_attention", "num_heads": 2, "gate": "scalar"]
  static let windowed: JSONValue = ["type": "softmax_attention", "num_attention_heads": 2, "sliding_window": 24]
  static let recurrent: JSONValue = ["type": "lstm"]

  static func configuration(
    width: Int = 32, layers: Int = 3, feedForwardWidth: Int = 48, mixers: [JSONValue] = [linear, linear, windowed]
  ) throws -> ModelConfiguration {
    try ModelConfiguration(width: width, layers: layers, feedForwardWidth: feedForwardWidth, mixers: mixers)
  }

  /// English-like text without end: words of a small vocabulary in a seeded order.
  static func text(_ count: Int, seed: UInt64 = 7) -> Data {
    let words = ["the", "licence", "of", "this", "work", "is", "a", "promise", "and", "code", "may", "be", "shared.\n"]
    var random = RandomSource(seed: seed, stream: 9)
    var bytes: [UInt8] = []
    while bytes.count < count {
      bytes += Array(words[min(words.count - 1, Int(random.nextUniform() * Float(words.count)))].utf8) + [32]
    }
    return Data(bytes.prefix(count))
  }

  static func documents(_ count: Int = 5, size: Int = 3000) -> [TokenDocument] {
    (0..<count).map { TokenDocument(Document(name: "d\($0)", bytes: text(size + 37 * $0, seed: UInt64($0)))) }
  }

  static func options(_ change: (inout TrainingOptions) -> Void = { _ in }) -> TrainingOptions {
    var options = TrainingOptions()
    options.steps = 12
    options.batch = 2
    options.length = 48
    options.warmup = 2
    options.validationInterval = 4
    options.validationBatches = 3
    options.checkpointInterval = 4
    change(&options)
    return options
  }

  static func trainer(_ options: TrainingOptions, mixers: [JSONValue] = [linear, linear, windowed]) throws -> Trainer {
    let model = try LanguageModel(configuration(mixers: mixers), seed: 3)
    let batches = try PackedBatches(
      documents(), batch: options.batch, length: options.length, beginToken: 256, mode: options.packing,
      seed: options.seed)
    return try Trainer(model, batches: batches, options: options)
  }

  /// A folder that goes away with the value.
  final class Folder {
    let path: String
    init() throws {
      path = NSTemporaryDirectory() + "fermata-\(UUID().uuidString)"
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
  }
}

/// Long tests run with FERMATA_LONG_TESTS=1.
let runsLongTests = ProcessInfo.processInfo.environment["FERMATA_LONG_TESTS"] == "1"
