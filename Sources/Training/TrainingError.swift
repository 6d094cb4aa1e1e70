/// Why a training cannot begin or go on.
public enum TrainingError: Error, Sendable, CustomStringConvertible {
  /// A setting that makes no sense.
  case setting(_ name: String, _ problem: String)
  /// The loss or the gradient is no longer a number.
  case notFinite(what: String, step: Int, kept: String)
  /// The folder holds another run, or something else that a new run would replace: the name of it.
  case occupied(folder: String, name: String = "last")
  /// There is nothing to resume.
  case nothingToResume(folder: String)
  /// What is resumed does not fit.
  case foreign(folder: String, problem: String)
  /// More memory than there is.
  case memory(needed: Int, available: Int, detail: String)

  public var description: String {
    switch self {
    case .setting(let name, let problem): "\(name): \(problem)"
    case .notFinite(let what, let step, let kept):
      "the \(what) at step \(step) is not a finite number; training stopped, \(kept). "
        + "A smaller --learning-rate, a longer --warmup or --clip usually helps"
    case .occupied(let folder, "last"):
      "\(folder) holds a run already; give --resume to go on with it, or another --output"
    case .occupied(let folder, let name):
      "\(folder)/\(name) is there already and a new run would replace it; move it away or give another --output"
    case .nothingToResume(let folder): "\(folder) holds no checkpoint to resume; leave out --resume to begin a run"
    case .foreign(let folder, let problem): "cannot resume \(folder): \(problem)"
    case .memory(let needed, let available, let detail):
      "this run would need about \(needed >> 20) MiB and \(available >> 20) MiB are available (\(detail)); "
        + "use a smaller --batch, --length or model, or --gradient exact with a shorter --length"
    }
  }
}
