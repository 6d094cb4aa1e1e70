import ArgumentParser
import FermataFiles
import FermataInference
import FermataMixers
import FermataModels
import FermataReports
import FermataTensors
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

  @Option(help: "Compute in f32 (exact) or bf16 (less memory, and faster where the processor has it).")
  var dtype: ComputeType = .f32

  /// The folder that holds the model's files.
  func folder() throws -> String { try ModelFolder.resolve(model) }

  /// The model, ready to run; refused with an estimate when there is no memory for it.
  func load() throws -> LanguageModel {
    let folder = try folder()
    let available = MemoryEstimate.availableMemory()
    // A long attention cache then ends in an error rather than in the system's killing the process.
    Memory.limit = available
    try checkMemory(folder, available: available)
    let loaded = try ModelFolder.load(folder)
    try loaded.configuration.requireBytes(folder)
    guard dtype == .bf16 else { return loaded }
    var model = try loaded.converted(to: .bfloat16)
    model.computeType = .bfloat16
    return model
  }

  /// Counts what every model of a configuration has at least, before anything of that size is made.
  private func checkMemory(_ folder: String, available: Int) throws {
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
  func session(_ model: LanguageModel, pieceLength: Int) throws -> StreamingSession {
    if let save {
      let folder = PathQuery.split(save).folder
      guard access(folder, W_OK) == 0 else { throw FileError.system("write", save, code: errno) }
      guard !PathQuery.isFolder(save) else { throw FileError.system("write", save, code: EISDIR) }
    }
    return try StreamingSession(model, state: load.map { try StateFile.load($0, for: model) }, pieceLength: pieceLength)
  }

  /// Saves the state when asked to.
  func saveState(of session: StreamingSession) throws {
    if let save { try StateFile.save(session.state.compacted(), of: session.model, to: save) }
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
