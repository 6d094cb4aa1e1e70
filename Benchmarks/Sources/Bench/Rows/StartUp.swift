import Fermata
import Foundation

/// Seconds from starting the command until it has ended.
struct VersionStart: Row {
  let command: String
  let name = "start-version"
  let title = "start-up of `fermata --version`"
  let quantity = Quantity.milliseconds
  let goal = Goal.atMost(20)

  func prepare() throws -> Subject {
    let text = try CommandRun(command, ["--version"]).finished()
    let isVersion = text.output.split(separator: ".").count >= 2 && text.status == 0
    return Subject(
      checks: [Check("prints its version", error: isVersion ? 0 : 1, allowed: 0)],
      sample: { try seconds { _ = try CommandRun(command, ["--version"]).finished() } })
  }
}

/// Seconds from starting `generate` on a model of the demo's size until the first byte of its text.
struct FirstTokenStart: Row {
  let command: String
  let name = "start-generate"
  let title = "start-up of `fermata generate` on the demo's model to its first token"
  let quantity = Quantity.milliseconds
  let goal = Goal.atMost(150)

  func prepare() throws -> Subject {
    let folder = TemporaryFolder()
    let configuration = try ModelConfiguration(
      mixers: [
        ["type": "gated_linear_attention", "num_heads": 4], ["type": "gated_linear_attention", "num_heads": 4],
        ["type": "softmax_attention", "num_attention_heads": 4, "sliding_window": 256],
      ])
    let path = folder.path + "/model"
    try ModelFolder.save(LanguageModel(configuration, seed: 1), to: path)
    let words = ["generate", "--model", path, "--prompt", "You may", "-n", "8", "--ignore-eos", "--raw", "--seed", "1"]
    let (first, second) = (try CommandRun(command, words).finished(), try CommandRun(command, words).finished())
    let isSound = first.status == 0 && !first.output.isEmpty && first.output == second.output
    return Subject(
      checks: [Check("the same text twice", error: isSound ? 0 : 1, allowed: 0)],
      sample: {
        withExtendedLifetime(folder) {}
        var run: CommandRun?
        let time = try seconds {
          run = try CommandRun(command, words)
          try run?.awaitByte()
        }
        _ = try run?.finished()
        return time
      })
  }
}

/// A folder that goes away with the value.
final class TemporaryFolder {
  let path = NSTemporaryDirectory() + "fermata-bench-\(UUID().uuidString)"
  init() { try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// A run of a command whose standard output we read. Started directly: Foundation's `Process` takes longer than the command.
struct CommandRun {
  private var process: pid_t = 0
  private let output: Int32

  init(_ command: String, _ words: [String]) throws {
    var ends: [Int32] = [0, 0]
    guard pipe(&ends) == 0 else { throw BenchError("no pipe") }
    output = ends[0]
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
    posix_spawn_file_actions_addclose(&actions, ends[0])
    posix_spawn_file_actions_addclose(&actions, ends[1])
    var arguments: [UnsafeMutablePointer<CChar>?] = ([command] + words).map { strdup($0) } + [nil]
    defer { arguments.forEach { free($0) } }
    let status = posix_spawn(&process, command, &actions, nil, &arguments, environ)
    close(ends[1])
    guard status == 0 else {
      close(ends[0])
      throw BenchError("cannot start \(command): build it with `make build`")
    }
  }

  /// Waits for the first byte of output.
  func awaitByte() throws {
    var byte: UInt8 = 0
    if read(output, &byte, 1) != 1 { throw BenchError("the command wrote nothing") }
  }

  /// Everything that is still to come, and the exit status.
  func finished() throws -> (output: String, status: Int32) {
    var text: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = read(output, &block, block.count)
      if count <= 0 { break }
      text += block[..<count]
    }
    close(output)
    var status: Int32 = 0
    waitpid(process, &status, 0)
    return (String(decoding: text, as: UTF8.self), status)
  }
}
