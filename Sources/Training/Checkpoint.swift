import FermataFiles
import FermataMixers
import FermataModels
import FermataTasks
import FermataTensors
import Foundation

/// A training run's whole state on disk: a model folder with the optimiser, the carried state and the place in the data
/// beside the weights. Written whole or not at all.
struct Checkpoint {
  /// What training.json holds.
  struct Record: Codable {
    enum CodingKeys: String, CodingKey, CaseIterable {
      case format, settings, step, cursor, best, seconds, path, threads, hasCarriedState
    }

    var format = "fermata-training-1"
    var settings: RunSettings
    var step: Int
    var cursor: PackedBatches.Cursor
    var best: Double?
    /// Seconds of training so far.
    var seconds: Double
    /// Processor path and threads: with the same ones the losses that follow are bit-equal.
    var path: String
    var threads: Int
    var hasCarriedState: Bool
  }

  static func write(_ trainer: Trainer, record: Record, to path: String) throws {
    try AtomicFolder.write(to: path) { folder in
      try ModelFolder.write(trainer.model, into: folder)
      let names = try trainer.model.parameters().map(\.name)
      let moments = names.flatMap { name in
        [("first.", trainer.optimizer.first), ("second.", trainer.optimizer.second)].compactMap { prefix, values in
          values[name].map { (prefix + name, $0) }
        }
      }
      try TensorFile.write(moments, to: folder + "/optimizer.safetensors")
      if let state = trainer.carried { try StateFile.save(state, of: trainer.model, to: folder + "/state.safetensors") }
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      try AtomicFile.write(encoder.encode(record), to: folder + "/training.json")
    }
  }

  static func record(in path: String) throws -> Record {
    let file = AtomicFolder.current(path) + "/training.json"
    guard let data = FileManager.default.contents(atPath: file) else {
      throw TrainingError.foreign(folder: path, problem: "training.json is missing or cannot be read")
    }
    do {
      let record = try decode(data)
      guard record.format == "fermata-training-1", (0...1 << 40).contains(record.step), record.seconds >= 0 else {
        throw TrainingError.foreign(folder: path, problem: "training.json is of another version or damaged")
      }
      // Before anything is computed from them.
      try record.settings.validate()
      return record
    } catch let error as JSONError {
      throw TrainingError.foreign(folder: path, problem: "\(error)")
    } catch TrainingError.setting(let name, let problem) {
      throw TrainingError.foreign(folder: path, problem: "training.json: \(name) \(problem)")
    }
  }

  /// Reads strictly, and says what is wrong in words. The bytes are decoded as they stand, because a seed may be larger than
  /// the numbers that a JSON value holds.
  private static func decode(_ data: Data) throws -> Record {
    let place = "training.json"
    let value = try StrictJSON.parse(data, place: place)
    let keys = Record.CodingKeys.allCases.map(\.rawValue)
    if let object = value.objectValue { try StrictJSON.checkKeys(object: object, allowed: keys, where: place) }
    do {
      return try JSONDecoder().decode(Record.self, from: data)
    } catch is DecodingError {
      return try StrictJSON.decode(Record.self, from: value, allowed: keys, where: place)
    }
  }

  /// Puts optimiser, carried state and data cursor back.
  static func restore(_ trainer: inout Trainer, record: Record, from path: String) throws {
    let folder = AtomicFolder.current(path)
    let stored = try TensorFile.read(folder + "/optimizer.safetensors")
    for (name, value) in try trainer.model.parameters() where record.step > 0 {
      func moment(_ prefix: String) throws -> Tensor {
        guard let tensor = stored[prefix + name], tensor.shape == value.shape, tensor.dtype == .float32 else {
          throw TrainingError.foreign(
            folder: path, problem: "optimizer.safetensors lacks '\(prefix + name)' of shape \(value.shape)")
        }
        return tensor
      }
      trainer.optimizer.first[name] = try moment("first.")
      trainer.optimizer.second[name] = try moment("second.")
    }
    trainer.optimizer.step = record.step
    try trainer.batches.restore(record.cursor)
    if record.hasCarriedState {
      trainer.carried = try StateFile.load(
        folder + "/state.safetensors", for: trainer.model, batch: record.settings.options.batch)
    }
  }
}
