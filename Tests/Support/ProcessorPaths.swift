import CFermataKernels
import FermataTensors
import Foundation

// Path and threads are forced for the calling thread alone (fm_override), so suites that run side by side do not disturb
// each other. Numbers that belong to the whole process are measured one at a time.
private let processSettings = NSRecursiveLock()

/// Runs the body while no other test measures the whole process.
package func withSteadyProcess<Result>(_ body: () throws -> Result) rethrows -> Result {
  TestRun.prepare()
  processSettings.lock()
  defer { processSettings.unlock() }
  return try body()
}

/// Runs the body on every path this processor has, poorest first. Errors name the path. The body must not suspend.
///
/// `emulatesTiles` adds the path where AMX's tile instructions are emulated, so that kernels that use them (attention and scans do) are
/// tested on any processor.
package func onEveryPath(emulatesTiles: Bool = false, _ body: (_ path: String) throws -> Void) throws {
  TestRun.prepare()
  defer { fm_override(-1, 0) }
  for path in Array(0...fm_best_path()) + (emulatesTiles ? [Int32(FM_AMX_EMULATED.rawValue)] : []) {
    fm_override(path, 0)
    guard fm_path() == path, let name = fm_path_name(path) else { throw Mismatch("path \(path) is refused") }
    do {
      try body(String(cString: name))
    } catch let error as Mismatch {
      throw Mismatch("on path \(String(cString: name)): \(error)")
    }
  }
}

/// Runs the body with one thread and with several, more than most machines have processors included, on every path, and demands
/// the same bits.
package func expectThreadsDoNotMatter(
  _ label: String = "", emulatesTiles: Bool = false, counts: [Int] = [2, 3, 16], _ body: () throws -> [Tensor]
) throws {
  try onEveryPath(emulatesTiles: emulatesTiles) { _ in
    let path = fm_path()
    defer { fm_override(path, 0) }
    fm_override(path, 1)
    let alone = try body()
    for count in counts {
      fm_override(path, Int32(count))
      for (index, (result, expected)) in zip(try body(), alone).enumerated() {
        try expectSameBits(result, expected, "\(label): result \(index) with \(count) threads instead of 1")
      }
    }
  }
}

/// Runs the body with a number of threads.
package func withThreads<Result>(_ count: Int, _ body: () throws -> Result) rethrows -> Result {
  TestRun.prepare()
  defer { fm_override(-1, 0) }
  fm_override(-1, Int32(count))
  return try body()
}

/// Whether the body holds in one of a few attempts. For numbers of the whole process, such as its memory: other suites
/// disturb them now and then, but what a fault spoils it spoils every time.
package func holdsOnce(attempts: Int = 8, _ body: () throws -> Bool) throws -> Bool {
  try withSteadyProcess {
    for _ in 0..<attempts where try body() { return true }
    return false
  }
}
