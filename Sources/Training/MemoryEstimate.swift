import FermataModels
import FermataTasks
import FermataTensors
import Foundation

/// What a run will need, found by running two tiny steps and extending the line through them: activations grow
/// with the tokens of a batch, and nothing in Fermata grows with their square.
public struct MemoryEstimate: Sendable {
  /// Weights, gradients and the optimiser's two moments.
  public var parameters: Int
  /// Activations and scratch of one batch.
  public var activations: Int
  /// What the system can give now.
  public var available: Int

  public var total: Int { parameters + activations }

  /// Measures the model at two short lengths. The options must be valid.
  public init(_ model: LanguageModel, options: TrainingOptions) throws {
    available = Self.availableMemory()
    let count = try model.parameterCount()
    parameters = 16 * count
    let isExact = options.packing == .stream && options.streamGradient == .exact
    let pieces = isExact ? options.piecesPerContext : 1
    // Tokens, targets and resets of all batches of one gradient; options' own check keeps the product small.
    var held = pieces * options.batch * options.length * 9
    if isExact {
      let kept = min(pieces, 2 * PiecewiseGradient.statesKept + 8)
      let state = model.stateBytes(batch: options.batch, length: options.length * pieces)
      held += Int(min(Double(kept) * Double(state), 1e18))
    }
    // Two sizes, both with rows enough for products to pack their weights as the run's will. Where rows are short, batches
    // differ instead of lengths.
    let short = min(256, options.length)
    let rows = (ProductWeight.fewestRows + short - 1) / short
    let isLong = options.length > short
    let small = try Self.peak(model, options, batch: rows, length: short)
    let large = try Self.peak(model, options, batch: isLong ? rows : 2 * rows, length: isLong ? 2 * short : short)
    let perToken = max(0, Double(large - small) / Double(rows * short))
    let fixed = max(0, Double(small) - perToken * Double(rows * short))
    activations = Int(min(fixed + perToken * Double(options.batch * options.length), 1e18)) + held
  }

  /// Throws unless the run fits.
  public func check() throws {
    if total > available {
      throw TrainingError.memory(
        needed: total, available: available,
        detail: "\(parameters >> 20) MiB for parameters and optimiser, \(activations >> 20) MiB for activations")
    }
  }

  /// Peak bytes above what was alive before, of one forward and backward. Packed weights are among them.
  private static func peak(_ model: LanguageModel, _ options: TrainingOptions, batch: Int, length: Int) throws -> Int {
    var model = model
    model.computeType = options.computeType
    let tokens = try Tensor.zeros([batch, length], .int32)
    let piece = TokenPiece(tokens: tokens, targets: tokens, layout: .init(batch: batch, length: length))
    try model.dropPackedWeights()
    let peak = try Memory.measure {
      try PiecewiseGradient.truncated(model, piece, state: model.initialState(batch: batch), scale: 1)
    }.peak
    // Gradients are counted with the parameters.
    return max(0, peak - 4 * (try model.parameterCount()))
  }

  /// Bytes the system can give: what the kernel calls available, or what a control group leaves, whichever is less.
  public static func availableMemory() -> Int {
    var available = Int.max
    if let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("MemAvailable:") }),
      let kibibytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
    {
      available = kibibytes << 10
    }
    func number(_ path: String) -> Int? {
      (try? String(contentsOfFile: path, encoding: .utf8)).flatMap {
        Int($0.trimmingCharacters(in: .whitespacesAndNewlines))
      }
    }
    if let limit = number("/sys/fs/cgroup/memory.max"), let used = number("/sys/fs/cgroup/memory.current") {
      available = min(available, max(0, limit - used))
    }
    // The address space that a user limits with `ulimit -v` counts too.
    var address = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &address) == 0, address.rlim_cur < rlim_t(Int.max) {
      available = min(available, Int(address.rlim_cur))
    }
    return available
  }
}
