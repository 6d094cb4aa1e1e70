import ArgumentParser
import FermataFiles
import FermataInference
import FermataMixers
import FermataModels
import FermataReports
import FermataTensors
import FermataTokenizers
import FermataTraining
import Foundation

/// The type that activations are computed in.
enum ComputeType: String, ExpressibleByArgument, CaseIterable {
  case f32, bf16

  var dtype: DType { self == .f32 ? .float32 : .bfloat16 }

  /// The type that a text names.
  static func parse(_ text: String) throws -> DType {
    guard let type = ComputeType(rawValue: text) else {
      throw ValidationError("--dtype must be f32 or bf16, got '\(text)'")
    }
    return type.dtype
  }
}

/// Threads and path of the kernels.
struct MachineOptions: ParsableArguments {
  @Option(name: .shortAndLong, help: "Threads; by default one for each processor.")
  var threads: Int?

  @Option(help: "Path through the kernels: portable, avx2, avx512, avx512_bf16, amx; by default the best there is.")
  var path: String?

  /// Sets the process up; a flag beats its environment variable.
  func apply() throws {
    var environment = ProcessInfo.processInfo.environment
    if threads != nil { environment["FERMATA_THREADS"] = nil }
    if path != nil { environment["FERMATA_PATH"] = nil }
    do {
      try Processor.useEnvironment(environment)
      if let path { try Processor.use(path: path, saidBy: "--path") }
      if let threads { try Processor.use(threads: threads, saidBy: "--threads") }
    } catch let error as TensorError {
      throw UsageError(error.description)
    }
  }
}

/// Which model, and in which type it computes.
struct ModelSource: ParsableArguments {
  @Option(name: .shortAndLong, help: "Folder of a model, or of a training run (its best model, else its last).")
  var model: String

  @Option(
    help: "Compute in f32 (exact) or bf16 (less memory, and faster where the processor has it); by default as stored.")
  var dtype: ComputeType?

  /// The folder that holds the model's files.
  func folder() throws -> String { try ModelFolder.resolve(model) }

  /// A model of whatever family, ready to run; refused with an estimate when there is no memory for it.
  /// - Parameter fallback: the type to compute in when none is asked for; nil: as stored.
  func open(fallback: ComputeType? = nil) throws -> any PretrainedModel {
    let folder = try folder()
    let available = MemoryEstimate.availableMemory()
    // A long attention cache then ends in an error rather than in the system's killing the process.
    Memory.limit = available
    try checkMemory(folder, available: available)
    return try ModelFolder.open(folder, as: (dtype ?? fallback)?.dtype)
  }

  /// A model that predicts text from left to right.
  func load() throws -> any CausalModel {
    let model = try open()
    guard let causal = model as? any CausalModel else { throw try cannotGoOn(model) }
    return causal
  }

  /// The error for a model that predicts no text.
  func cannotGoOn(_ model: any PretrainedModel) throws -> UsageError {
    UsageError(
      "\(try folder()) holds a model that does not go on with a text (\(model.document["model_type"]?.stringValue ?? "")); "
        + "use `fermata embed` or `fermata logits`")
  }

  /// What turns text into the model's tokens.
  func tokenizer(of model: any PretrainedModel) throws -> any Tokenizer {
    if let own = model as? LanguageModel { return try own.byteTokenizer() }
    let tokenizer = try TokenizerFiles.load(folder())
    let known = (model as? any CausalModel)?.vocabularySize ?? model.document["vocab_size"]?.intValue ?? .max
    guard tokenizer.vocabularySize <= known else {
      throw TokenizerError(
        try folder(), "its tokenizer has \(tokenizer.vocabularySize) tokens, but the weights know only \(known)",
        advice: "the files belong to different models")
    }
    return tokenizer
  }

  /// Counts what every model of a configuration has at least, before anything of that size is made.
  private func checkMemory(_ folder: String, available: Int) throws {
    let json = try StrictJSON.readForeign(AtomicFolder.current(folder) + "/config.json")
    guard json["model_type"]?.stringValue ?? ModelConfiguration.modelType == ModelConfiguration.modelType else {
      return
    }
    let configuration = try ModelFolder.configuration(of: folder)
    let perLayer = configuration.width * (3 * configuration.feedForwardWidth + configuration.width)
    let least = 4 * (configuration.vocabularySize * configuration.width + configuration.layers * perLayer)
    guard least <= available else {
      throw TensorError(
        "allocation", expected: "a model that fits into the \(available >> 20) MiB that are free",
        got: "\(folder), whose weights alone take \(least >> 20) MiB", advice: "use a smaller model or a larger machine"
      )
    }
  }
}

/// How long sequences may become, which some models must know before the first token.
struct LengthOption: ParsableArguments {
  @Option(
    name: .customLong("max-length"), parsing: .unconditional,
    help:
      "The most tokens of the whole sequence; models whose positions depend on it are set for it (default: as needed).")
  var maximum: Int?

  func validate() throws {
    if let maximum, maximum < 1 { throw ValidationError("--max-length must be at least 1, got \(maximum)") }
  }

  /// Fixes the length of a model's sequences before its first token, where it depends on it.
  /// - Parameter needed: how long the sequence becomes; nil: nobody knows.
  func fix(_ model: any CausalModel, needed: Int?) throws -> any CausalModel {
    if let maximum, let needed, needed > maximum {
      throw UsageError("the prompt and what is to follow are \(needed) tokens; --max-length allows \(maximum)")
    }
    guard model.dependsOnLength else { return model }
    guard let length = maximum ?? needed else {
      throw UsageError("this model's positions depend on the length of the sequence; give --max-length")
    }
    var fixed = model
    try fixed.fix(length: max(length, 1))
    return fixed
  }
}

/// A state to go on from, and where to keep the one at the end.
struct StateOptions: ParsableArguments {
  @Option(name: .customLong("load-state"), help: ArgumentHelp("Go on from a saved state.", valueName: "file"))
  var load: String?

  @Option(
    name: .customLong("save-state"),
    help: ArgumentHelp("Save the state after everything read and written.", valueName: "file"))
  var save: String?

  /// A session at the beginning, or where the loaded state ends. Where the state cannot be saved, hours of work should
  /// not come first.
  func session(_ model: any CausalModel, pieceLength: Int) throws -> StreamingSession {
    if let save {
      let folder = PathQuery.split(save).folder
      guard access(folder, W_OK) == 0 else { throw FileError.system("write", save, code: errno) }
      guard !PathQuery.isFolder(save) else { throw FileError.system("write", save, code: EISDIR) }
    }
    guard let load else { return try StreamingSession(model, pieceLength: pieceLength) }
    return try StreamingSession(
      model, state: StateFile.load(load, for: model), logits: StateFile.logits(load, for: model),
      pieceLength: pieceLength)
  }

  /// Saves the state when asked to.
  func saveState(of session: StreamingSession) throws {
    if let save { try StateFile.save(session.state.compacted(), logits: session.logits, of: session.model, to: save) }
  }
}

/// The most memory the process has held, weights in mapped files included.
func peakMemory() -> Int {
  var usage = rusage()
  getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
  return usage.ru_maxrss << 10
}

extension Duration {
  /// The duration in seconds.
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}

/// "120 tokens/s"; a dash when nothing was timed.
func speed(_ tokens: Int, _ seconds: Double) -> String {
  tokens > 0 && seconds > 0 ? "\(Human.count(Double(tokens) / seconds)) tokens/s" : "-"
}
