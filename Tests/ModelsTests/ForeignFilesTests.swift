import FermataFiles
import FermataMixers
import FermataTensors
import Foundation
import Testing

@testable import FermataModels

/// Files that are not what they should be, and folders that are not ours.
@Suite struct ForeignFilesTests {
  private func inFolder(_ body: (String) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "fermata-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
  }

  private func model(seed: UInt64 = 4, width: Int = 16, mixers: [JSONValue] = ModelTests.mixers) throws -> LanguageModel
  {
    try LanguageModel(ModelConfiguration(width: width, layers: 3, feedForwardWidth: 24, mixers: mixers), seed: seed)
  }

  private func state(of model: LanguageModel) throws -> ModelState {
    var state = try model.initialState(batch: 1)
    _ = try model.logits(Tensor((0..<12).map { Int32($0) }, shape: [1, 12]), state: &state)
    return state
  }

  @Test func statesOfOtherWeightsAreRefused() throws {
    try inFolder { folder in
      let model = try model()
      let path = folder + "/s.safetensors"
      try StateFile.save(state(of: model), of: model, to: path)
      #expect(throws: TensorError.self) { try StateFile.load(path, for: self.model(seed: 5)) }
      // The same weights in bf16 are the same model.
      #expect(try StateFile.load(path, for: model.converted(to: .bfloat16)).position == 12)
      var changed = model
      changed.norm.weight = try changed.norm.weight * 2
      #expect(throws: TensorError.self) { try StateFile.load(path, for: changed) }
    }
  }

  @Test func impossiblePositionsAreRefused() throws {
    try inFolder { folder in
      let model = try model()
      let path = folder + "/s.safetensors"
      for position in [Int.max, (1 << 60) + 1, 1 << 60, -1, 3] {
        var state = try state(of: model)
        for layer in state.layers.indices { state.layers[layer].position = position }
        try StateFile.save(state, of: model, to: path)
        #expect(throws: TensorError.self, "\(position)") { try StateFile.load(path, for: model) }
      }
      var uneven = try state(of: model)
      uneven.layers[1].position = 13
      try StateFile.save(uneven, of: model, to: path)
      #expect(throws: TensorError.self) { try StateFile.load(path, for: model) }
    }
  }

  @Test func impossibleKeysAreRefused() throws {
    try inFolder { folder in
      let model = try model()
      let path = folder + "/s.safetensors"
      for shape in [[1 << 59, 0], [1 << 59, 1, 0, 8], [0, 0, 0, 0], [4, 1, 2]] {
        var state = try state(of: model)
        for name in ["keys", "values"] { state.layers[2][name] = try Tensor.zeros(shape) }
        for position in [12, 1 << 59] {
          for layer in state.layers.indices { state.layers[layer].position = position }
          try StateFile.save(state, of: model, to: path)
          #expect(throws: (any Error).self, "\(shape)") { try StateFile.load(path, for: model) }
        }
      }
    }
  }

  @Test func statesFarAlongAreRead() throws {
    try inFolder { folder in
      let model = try model()
      let path = folder + "/s.safetensors"
      var state = try state(of: model)
      for layer in state.layers.indices { state.layers[layer].position = (1 << 31) + 5 }
      try StateFile.save(state, of: model, to: path)
      var loaded = try StateFile.load(path, for: model)
      let tokens = try Tensor((0..<9).map { Int32($0) }, shape: [1, 9])
      #expect(try model.logits(tokens, state: &loaded).floats().allSatisfy(\.isFinite))
      #expect(loaded.position == (1 << 31) + 14)
    }
  }

  @Test func foldersOfOtherThingsAreLeftAlone() throws {
    try inFolder { folder in
      let model = try model()
      try Data("mine".utf8).write(to: URL(fileURLWithPath: folder + "/notes.txt"))
      #expect(throws: FileError.self) { try ModelFolder.save(model, to: folder) }
      #expect(FileManager.default.contents(atPath: folder + "/notes.txt") == Data("mine".utf8))
      try FileManager.default.createDirectory(atPath: folder + "/empty", withIntermediateDirectories: true)
      try ModelFolder.save(model, to: folder + "/empty")
      try ModelFolder.save(self.model(seed: 9), to: folder + "/empty")
      let first = try ModelFolder.load(folder + "/empty").parameters()[0].value.floats()
      #expect(try first == self.model(seed: 9).parameters()[0].value.floats())
    }
  }

  /// A writer that was killed between two renames leaves the old folder under its hidden name.
  @Test func setAsideModelsAreRead() throws {
    try inFolder { folder in
      try ModelFolder.save(model(), to: folder + "/m")
      try FileManager.default.moveItem(atPath: folder + "/m", toPath: folder + "/.m.previous")
      #expect(try ModelFolder.load(folder + "/m").configuration == model().configuration)
    }
  }

  @Test func loadingDrawsNothing() throws {
    var random = RandomSource.none
    let huge = try random.normal([1 << 20, 1 << 20], deviation: 0.1)
    #expect(huge.shape == [1 << 20, 1 << 20])
    #expect(try random.uniform([2], 3, 4).floats() == [0, 0])
    #expect(random.nextUniform() == 0)
    // Every registered mixer can be made so, and all of it comes from the file.
    for entry in MixerRegistry.standard.entries {
      for example in entry.examples {
        guard case .object(var fields) = try StrictJSON.parse(Data(example.utf8), place: "example") else { continue }
        fields["type"] = .string(entry.name)
        // An example need not fit every width, but one of these.
        let models = [16, 22, 33].lazy.compactMap { try? self.model(width: $0, mixers: [.object(fields)]) }
        let model = try #require(models.first, "\(example)")
        try inFolder { folder in
          try ModelFolder.save(model, to: folder + "/m")
          let loaded = try ModelFolder.load(folder + "/m")
          for ((name, a), (_, b)) in zip(try model.parameters(), try loaded.parameters()) {
            #expect(try a.floats() == b.floats(), "\(example): \(name)")
          }
        }
      }
    }
  }

  @Test func modelsOfTokenIdsSaySo() throws {
    let ids = try ModelConfiguration(
      vocabularySize: 64, width: 16, layers: 1, mixers: [["type": "lstm"]],
      tokenizer: "none", beginToken: 0)
    #expect(throws: ConfigurationError.self) { try ids.requireBytes() }
    #expect(try ModelConfiguration(json: ids.json) == ids)
    try model().configuration.requireBytes()
    #expect(throws: ConfigurationError.self) {
      try ModelConfiguration(vocabularySize: 64, width: 16, layers: 1, mixers: [["type": "lstm"]], beginToken: 0)
    }
  }

  @Test func sizesThatCannotBeCountedAreRefused() throws {
    #expect(throws: TensorError.self) { try Tensor.zeros([]).broadcast(to: [1 << 62]) }
    #expect(try Tensor.zeros([]).broadcast(to: [1 << 60]).byteCount == 1 << 62)
  }
}
