import CFermataKernels

/// The processor and how kernels use it.
public enum Processor {
  /// Names of the paths that this processor has, poorest first.
  public static var paths: [String] { (0...fm_best_path()).compactMap { fm_path_name($0).map { String(cString: $0) } } }
  /// The path in use.
  public static var path: String { fm_path_name(fm_path()).map { String(cString: $0) } ?? "portable" }
  /// Features that matter here, for tables of measurements.
  public static var features: String { String(cString: fm_features()) }
  /// Threads in use.
  public static var threads: Int { Int(fm_threads()) }
}
