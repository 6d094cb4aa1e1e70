import CFermataKernels
import Foundation

/// The processor and how kernels use it: which of their paths, and how many threads.
///
/// Both belong to the whole process; set them before the work begins. The environment variables `FERMATA_PATH` and
/// `FERMATA_THREADS` set them too; `useEnvironment` says whether they make sense.
public enum Processor {
  /// Names of all paths there are, poorest first. The last emulates what a processor may lack: tests take it, nobody else.
  public static var allPaths: [String] {
    (Int32(0)...).lazy.map { fm_path_name($0) }.prefix { $0 != nil }.compactMap { $0.map { String(cString: $0) } }
  }
  /// Names of the paths that this processor has, poorest first.
  public static var paths: [String] { Array(allPaths.prefix(Int(fm_best_path()) + 1)) }
  /// Names of the paths for tests, which every processor has.
  public static var testPaths: [String] { Array(allPaths.suffix(1)) }
  /// The path in use.
  public static var path: String { fm_path_name(fm_path()).map { String(cString: $0) } ?? "portable" }
  /// Features that matter here, for tables of measurements.
  public static var features: String { String(cString: fm_features()) }
  /// Threads in use, the caller's included.
  public static var threads: Int { Int(fm_threads()) }
  /// Processors that this process may run on.
  public static var cores: Int { max(1, ProcessInfo.processInfo.activeProcessorCount) }

  /// Uses a path from now on.
  /// - Parameter source: what asked for it, for the message.
  /// - Throws: `TensorError` when there is none of that name or the processor lacks it.
  public static func use(path name: String, saidBy source: String = "path") throws {
    if let index = allPaths.firstIndex(of: name), fm_set_path(Int32(index)) == 0 { return }
    throw TensorError(
      source, expected: "one of \(paths.joined(separator: ", "))",
      got: "'\(name)'" + (allPaths.contains(name) ? ", which this processor lacks" : ""))
  }

  /// Uses so many threads from now on.
  /// - Parameter source: what asked for them, for the message.
  /// - Throws: `TensorError` for none, or more than there are processors: they would only wait for one another.
  public static func use(threads count: Int, saidBy source: String = "threads") throws {
    try require(
      (1...cores).contains(count), source,
      expected: cores == 1
        ? "1, this process may use one processor" : "1 to \(cores), the processors this process may use",
      got: "\(count)")
    fm_set_threads(Int32(count))
  }

  /// Uses the path and the threads that `FERMATA_PATH` and `FERMATA_THREADS` ask for: by default the best path, and a
  /// thread for each processor this process may run on.
  /// - Throws: `TensorError` when one of them cannot be.
  public static func useEnvironment(_ environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    if let name = environment["FERMATA_PATH"], !name.isEmpty { try use(path: name, saidBy: "FERMATA_PATH") }
    guard let text = environment["FERMATA_THREADS"], !text.isEmpty else { return try use(threads: cores) }
    guard let count = Int(text) else {
      throw TensorError("FERMATA_THREADS", expected: "a whole number", got: "'\(text)'")
    }
    try use(threads: count, saidBy: "FERMATA_THREADS")
  }
}
