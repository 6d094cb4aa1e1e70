import ArgumentParser
import FermataFiles
import FermataTensors
import FermataTestSupport
import Foundation
import FuzzWatch

/// Damages sound files at random and has them read: whatever is in a file, reading it ends in a value or in one of the
/// library's errors, in bounded time and with memory that the file justifies.
///
/// Every file depends on the run's seed, its target and its number alone, so what fails is found again at once.
@main
struct Fuzz: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fuzz", abstract: "Reads damaged files until one of them crashes, hangs or takes too much memory.")

  @Option(help: "Files in all, shared by the targets.") var rounds = 20_000
  @Option(help: "The number of the first file of each target.") var first = 0
  @Option(help: "The only target; all of them without it.") var target: String?
  @Option(help: "Seconds of processor time that one file may take.") var seconds = 10
  @Option(help: "Where files that fail are kept.") var keep = ".build/fuzz-failures"
  @Flag(help: "Print the names of the targets.") var list = false

  func run() throws {
    // Files that live for a hundred microseconds belong in memory.
    let memory = PathQuery.isFolder("/dev/shm") ? "/dev/shm/" : NSTemporaryDirectory()
    let scratch = try Folder(memory + "fermata-fuzz-\(ProcessInfo.processInfo.processIdentifier)")
    defer { try? FileManager.default.removeItem(atPath: scratch.path) }
    let targets = try Self.targets(scratch).filter { target == nil || $0.name == target }
    guard !targets.isEmpty else { throw ValidationError("there is no target '\(target ?? "")'; see --list") }
    if list { return print(targets.map(\.name).joined(separator: "\n")) }
    fuzz_watch(Int32(clamping: seconds))
    var failures = 0
    for target in targets {
      let count = max(1, rounds / targets.count)
      failures += try run(target, count, try scratch.folder("run").folder(target.name))
    }
    if failures > 0 { throw ExitCode.failure }
  }

  private static func targets(_ scratch: Folder) throws -> [Target] {
    let goldens =
      URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Goldens"
    let tokenizers = try StrictJSON.read(goldens + "/tokenizers.json")
    let families = try ModelTargets.familyNames.map { try ModelTargets.Family($0, in: goldens, scratch: scratch) }
    return [
      ModelTargets.safetensors,
      try ModelTargets.configurations(families, scratch.folder("configurations")),
      try ModelTargets.weights(families, scratch.folder("weights of families")),
      try ModelTargets.index(families[0], scratch.folder("run").folder("index")),
      try ModelTargets.state(families[0], scratch.folder("state")),
      TextTargets.generation,
      TextTargets.tokenizerSettings,
      TextTargets.separateFiles,
      try TextTargets.tokenizerJSON(tokenizers),
      try TextTargets.sentencePieces(tokenizers),
      TextTargets.gguf,
      try TextTargets.templates(StrictJSON.read(goldens + "/templates.json")),
    ]
  }

  /// - Returns: how many files failed.
  private func run(_ target: Target, _ count: Int, _ place: Folder) throws -> Int {
    var outcome = Outcome()
    let start = clock()
    for number in first..<first + count {
      var random = TestRandom("\(target.name) \(number)")
      let (file, seed) = target.mutator.file(&random)
      fuzz_begin("\(target.name), number \(number): make fuzz TARGET=\(target.name) FIRST=\(number) ROUNDS=1")
      let (problem, tensors, _) = Memory.measure { attempt(target, file, seed, place, &outcome) }
      let bytes = Int(fuzz_peak()) + tensors
      outcome.note(bytes, of: file.count + target.beside)
      let allowed = Self.allowedBytes(file.count + target.beside) + target.allowance
      guard let problem = problem ?? (bytes > allowed ? "it took \(bytes) bytes; \(allowed) are allowed" : nil) else {
        continue
      }
      outcome.failures += 1
      try Folder(keep).write(file, to: "\(target.name)-\(number)")
      print("fuzz: \(target.name), number \(number): \(problem); the file is \(keep)/\(target.name)-\(number)")
      fflush(nil)
      if outcome.failures == 20 { break }
    }
    print(outcome.line(target.name, seconds: Double(clock() - start) / Double(CLOCKS_PER_SEC)))
    fflush(nil)
    return outcome.failures
  }

  /// What a reader may hold for so many bytes: values of a JSON document take some fifty times their text at worst.
  private static func allowedBytes(_ size: Int) -> Int { 4 << 20 + 100 * size }

  /// - Returns: what is wrong with how the file was read; nil: nothing.
  private func attempt(
    _ target: Target, _ file: [UInt8], _ seed: Int, _ place: Folder, _ outcome: inout Outcome
  ) -> String? {
    do {
      try target.attempt(file, seed, place)
      outcome.read += 1
      return nil
    } catch {
      return Target.isTyped(error) ? nil : "an error of another kind: \(error)"
    }
  }
}

/// What became of a target's files.
private struct Outcome {
  var read = 0
  var tried = 0
  var failures = 0
  var most = 0
  var mostShare = 0.0

  mutating func note(_ bytes: Int, of size: Int) {
    tried += 1
    most = max(most, bytes)
    mostShare = max(mostShare, Double(bytes) / Double(max(size, 1)))
  }

  func line(_ name: String, seconds: Double) -> String {
    let rate = Int(Double(tried) / max(seconds, 1e-9))
    return
      "\(name): \(tried) files, \(read) read and \(tried - read) refused, \(failures) failures; at most \(most >> 10) KiB; "
      + "\(rate) files a second of processor time"
  }
}
