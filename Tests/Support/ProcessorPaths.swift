import CFermataKernels
import FermataTensors
import Foundation

// The processor path and the number of threads belong to the whole process, and suites run side by side. Any path gives
// results within tolerance, so most tests need not care; those that switch, or compare bits, hold this lock.
private let processSettings = NSRecursiveLock()

/// Runs the body while no other test switches path or threads.
package func withSteadyProcess<Result>(_ body: () throws -> Result) rethrows -> Result {
  TestRun.prepare()
  processSettings.lock()
  defer { processSettings.unlock() }
  return try body()
}

/// Runs the body on every path this processor has, poorest first. Errors name the path.
package func onEveryPath(_ body: (_ path: String) throws -> Void) throws {
  try withSteadyProcess {
    let before = fm_path()
    defer { _ = fm_set_path(before) }
    for path in 0...fm_best_path() {
      guard fm_set_path(path) == 0, let name = fm_path_name(path) else { throw Mismatch("path \(path) is refused") }
      do {
        try body(String(cString: name))
      } catch let error as Mismatch {
        throw Mismatch("on path \(String(cString: name)): \(error)")
      }
    }
  }
}

/// Runs the body with one thread and with several, on every path, and demands the same bits.
package func expectThreadsDoNotMatter(_ label: String = "", _ body: () throws -> [Tensor]) throws {
  try onEveryPath { path in
    let before = fm_threads()
    defer { fm_set_threads(before) }
    fm_set_threads(1)
    let alone = try body()
    for count in [2, 3] {
      fm_set_threads(Int32(count))
      for (index, (result, expected)) in zip(try body(), alone).enumerated() {
        try expectSameBits(result, expected, "\(label): result \(index) with \(count) threads instead of 1")
      }
    }
  }
}

/// Whether the body holds in one of a few attempts. For numbers of the whole process, such as its memory: other suites
/// disturb them now and then, but what a fault spoils it spoils every time.
package func holdsOnce(attempts: Int = 8, _ body: () throws -> Bool) throws -> Bool {
  try withSteadyProcess {
    for _ in 0..<attempts where try body() { return true }
    return false
  }
}
