import FermataFiles
import FermataModels
import FermataTensors
import Foundation
import Testing

/// The built `fermata`, run as its users run it.
enum CommandLineTool {
  struct Result {
    var code: Int32
    var output: Data
    var errors: String

    var text: String { String(decoding: output, as: UTF8.self) }
  }

  /// Executables lie beside the one that runs the tests.
  static let path: String = {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    var folder = URL(fileURLWithPath: own).deletingLastPathComponent()
    for _ in 0..<4 {
      let candidate = folder.appendingPathComponent("fermata").path
      if FileManager.default.isExecutableFile(atPath: candidate) { return candidate }
      folder.deleteLastPathComponent()
    }
    return "fermata"
  }()

  /// Runs a shell command in which `$FERMATA` is the tool and `$1`, `$2`, … are the arguments.
  static func shell(
    _ script: String, _ arguments: [String] = [], environment: [String: String] = [:], in folder: TestFolder
  ) throws -> Result {
    // Files rather than pipes: nothing can fill up and wait.
    let name = UUID().uuidString
    let (output, errors) = (folder.file("out-\(name)"), folder.file("err-\(name)"))
    let prologue = "cd \(folder.path); exec < /dev/null > \(output) 2> \(errors)\n"
    let inherited = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("FERMATA_") }
    // One thread: many tests run at once, and threads that wait for one another on busy processors are slow.
    let own = ["FERMATA": path, "FERMATA_THREADS": "1", "SWIFT_BACKTRACE": "enable=no"]
    let code = try spawn(
      ["/bin/bash", "-c", prologue + script, "bash"] + arguments,
      inherited.merging(own) { $1 }.merging(environment) { $1 })
    return Result(
      code: code, output: try Data(contentsOf: URL(fileURLWithPath: output)),
      errors: String(decoding: try Data(contentsOf: URL(fileURLWithPath: errors)), as: UTF8.self))
  }

  /// Runs a program to its end.
  /// - Returns: its exit code, or 128 and the signal that ended it.
  private static func spawn(_ arguments: [String], _ environment: [String: String]) throws -> Int32 {
    var process = pid_t()
    var argumentPointers = arguments.map { strdup($0) } + [nil]
    var environmentPointers = environment.map { strdup("\($0)=\($1)") } + [nil]
    defer { for pointer in argumentPointers + environmentPointers { free(pointer) } }
    let failure = posix_spawn(&process, arguments[0], nil, nil, &argumentPointers, &environmentPointers)
    try #require(failure == 0, "cannot start \(arguments[0]): \(String(cString: strerror(failure)))")
    var status: Int32 = 0
    while waitpid(process, &status, 0) == -1 { try #require(errno == EINTR) }
    return status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + status & 0x7F
  }

  /// Runs the tool.
  static func run(
    _ arguments: String..., environment: [String: String] = [:], in folder: TestFolder
  ) throws -> Result {
    try shell("exec \"$FERMATA\" \"$@\"", arguments, environment: environment, in: folder)
  }
}

/// A folder of its own for a test, deleted with the object.
final class TestFolder: Sendable {
  let path = NSTemporaryDirectory() + "/fermata-command-\(UUID().uuidString)"

  init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }

  func write(_ bytes: some Sequence<UInt8>, to name: String) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: file(name)))
  }

  func write(_ text: String, to name: String) throws { try write(text.utf8, to: name) }

  /// A small model with random weights, of every kind of mixer there is, in the folder `model`.
  static func withModel(width: Int = 16, layers: Int = 3, seed: UInt64 = 3) throws -> TestFolder {
    let folder = try TestFolder()
    try folder.saveModel("model", width: width, layers: layers, seed: seed)
    return folder
  }

  @discardableResult
  func saveModel(_ name: String, width: Int = 16, layers: Int = 3, seed: UInt64 = 3) throws -> LanguageModel {
    let mixers: [JSONValue] = [
      ["type": "gated_linear_attention", "num_heads": 2],
      ["type": "softmax_attention", "num_attention_heads": 2, "sliding_window": 8],
      ["type": "lstm"],
    ]
    let model = try LanguageModel(
      ModelConfiguration(width: width, layers: layers, mixers: Array(mixers.prefix(layers))), seed: seed)
    try ModelFolder.save(model, to: file(name))
    return model
  }

  /// Replaces text in one of the folder's files.
  func edit(_ name: String, _ old: String, _ new: String) throws {
    let text = try String(contentsOfFile: file(name), encoding: .utf8)
    #expect(text.contains(old))
    try write(text.replacingOccurrences(of: old, with: new), to: name)
  }
}
