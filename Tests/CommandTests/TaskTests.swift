import Foundation
import Testing

/// `fermata task`: lists, runs, logs and refuses.
@Suite struct TaskTests {
  @Test func listsAndRuns() throws {
    let folder = try TestFolder()
    let list = try CommandLineTool.run("task", in: folder)
    #expect(list.code == 0 && list.text.contains("parity") && list.text.contains("associative_recall"))
    let run = try CommandLineTool.run(
      "task", "parity", "--mixer", #"{"type": "lstm", "num_heads": 2}"#, "--width", "8", "--layers", "1", "--length",
      "6", "--eval-length", "2x", "--steps", "4", "--seeds", "1,2", "--eval-interval", "2", "--log", "log.jsonl",
      in: folder)
    #expect(run.code == 0, "\(run.errors)")
    #expect(run.text.contains("seed 1: accuracy 0.") && run.text.contains("at 12 tokens after 4 steps"))
    #expect(run.text.split(separator: "\n").count == 2)
    let log = try String(contentsOfFile: folder.file("log.jsonl"), encoding: .utf8).split(separator: "\n")
    #expect(log.count == 6 && log.allSatisfy { $0.contains("\"task\":\"parity\"") })
  }

  @Test(arguments: [
    ("parrity --mixer lstm", "did you mean 'parity'"), ("parity", "--mixer"),
    ("parity --mixer lsmt", "did you mean 'lstm'"), ("parity --mixer lstm --items 3", "means nothing here"),
    ("parity --mixer lstm --eval-length 4y", "4y"), ("parity --mixer lstm --eval-length 3", "evaluation length"),
    ("parity --mixer lstm --seeds 1,x", "--seeds"), ("parity --mixer lstm --steps 0", "steps"),
  ]) func refuses(_ arguments: String, _ message: String) throws {
    let folder = try TestFolder()
    let result = try CommandLineTool.shell("exec \"$FERMATA\" task \(arguments)", in: folder)
    #expect((64...65).contains(result.code), "\(arguments): \(result.code)")
    #expect(result.errors.contains(message), "\(arguments): \(result.errors)")
  }
}
