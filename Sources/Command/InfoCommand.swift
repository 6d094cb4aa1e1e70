import ArgumentParser
import FermataFiles
import FermataInference
import FermataLayers
import FermataModels
import FermataReports
import FermataTensors

/// What a model is and what it needs.
struct InfoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info",
    abstract: "What a model is: layers, parameters, state and memory.",
    discussion: """
      Examples:
        fermata info -m runs/book
        fermata info -m runs/book --dtype bf16
      """)

  @OptionGroup(title: "Model") var source: ModelSource
  @OptionGroup(title: "Machine") var machine: MachineOptions

  private static let lengths = [1_000, 100_000, 1_000_000]

  func run() throws {
    try machine.apply()
    let folder = try source.folder()
    let model = try source.open()
    let output = StandardOutput()
    try output.write(heading(model, folder))
    if let own = model as? LanguageModel { try output.write(summary(own) + layers(own)) }
    if let causal = model as? any CausalModel {
      if !(causal is LanguageModel) { try output.write(summary(causal)) }
      try output.write(state(causal))
    }
    try output.write(files(folder))
    try output.flush()
  }

  private func heading(_ model: any PretrainedModel, _ folder: String) throws -> String {
    let count = try model.parameterCount()
    return """
      model       \(folder)
      family      \(model.document["model_type"]?.stringValue ?? "unknown")
      parameters  \(count) (\(Human.count(count)))
      """ + "\n"
  }

  private func summary(_ model: any CausalModel) -> String {
    """
    width       \(model.width)
    vocabulary  \(model.vocabularySize)
    cut         \(model.cut == .causal ? "anywhere: it streams" : model.cut.rawValue)\
    \(model.dependsOnLength ? ", once the length of the sequence is fixed (--max-length)" : "")
    """ + "\n"
  }

  private func summary(_ model: LanguageModel) -> String {
    let configuration = model.configuration
    let hidden = configuration.feedForwardWidth
    return """
      width       \(configuration.width), feed-forward \(hidden > 0 ? String(hidden) : "none")
      vocabulary  \(configuration.vocabularySize) (\(configuration.tokenizer)), \
      head \(configuration.tiesEmbeddings ? "tied to the embedding" : "of its own")
      cut         \(model.cut == .causal ? "anywhere: it streams" : model.cut.rawValue)

      layers
      """ + "\n"
  }

  /// A line for each mixer of the repeated pattern, with the layers that have it.
  private func layers(_ model: LanguageModel) throws -> String {
    let pattern = model.configuration.mixers.count
    return try (0..<min(pattern, model.blocks.count)).map { first in
      let numbers = stride(from: first, to: model.blocks.count, by: pattern).map(String.init)
      var settings = model.configuration.mixer(ofLayer: first).objectValue ?? [:]
      let name = settings.removeValue(forKey: "type")?.stringValue ?? "?"
      let parameters = Human.count(try model.blocks[first].parameterCount())
      return "  \(numbers.joined(separator: ", ")): \(name) \(try JSONValue.object(settings).text()), "
        + "\(parameters) parameters each\n"
    }.joined()
  }

  /// What one stream takes: the state by the formula of each mixer, the work of a piece as measured.
  private func state(_ model: any CausalModel) throws -> String {
    let weights = try model.parameters().reduce(0) { $0 + $1.value.byteCount }
    let work = try Self.workBytes(model)
    let lengths = Self.lengths.filter { $0 <= model.maximumLength ?? .max } + [model.maximumLength].compactMap { $0 }
    let rows = lengths.map { length in
      let state = model.stateBytes(batch: 1, length: length)
      return "  " + "\(Human.count(length)) tokens".padded(14) + Human.bytes(state).padded(12)
        + "\(Human.bytes(weights + work + state)) in all\n"
    }
    return
      "\nstate of one stream (\(model.computeType.rawValue.lowercased())), and with weights (\(Human.bytes(weights))) "
      + "and work (\(Human.bytes(work)))\n" + rows.joined()
  }

  private static func workBytes(_ model: any CausalModel) throws -> Int {
    guard model.cut == .causal, (try? model.languageHead()) != nil else { return 0 }
    let before = Memory.usage.live
    Memory.resetPeak()
    let length = min(PromptSource.pieceLength, model.maximumLength ?? .max)
    var session = try StreamingSession(model, pieceLength: length)
    try session.read([Int](repeating: 0, count: length))
    return max(0, Memory.usage.peak - before - session.state.byteCount)
  }

  private func files(_ folder: String) throws -> String {
    let folder = AtomicFolder.current(folder)
    let rows = try PathQuery.names(in: folder).compactMap { name in
      PathQuery.status(PathQuery.join(folder, name)).map { "  \(name.padded(26))\(Human.bytes(Int($0.st_size)))\n" }
    }
    return "\nfiles\n" + rows.joined()
  }
}
