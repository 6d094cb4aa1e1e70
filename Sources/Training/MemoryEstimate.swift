import FermataLayers
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
    // differ instead of lengths. Packed weights are made first and counted by themselves, so that they hide no activations.
    let short = min(64, options.length)
    let rows = (ProductWeight.fewestRows + short - 1) / short
    let isLong = options.length > short
    try model.dropPackedWeights()
    let packed = try Self.measure(model, options, batch: rows, length: short).left
    let small = try Self.measure(model, options, batch: rows, length: short).peak
    let large = try Self.measure(
      model, options, batch: isLong ? rows : 2 * rows, length: isLong ? 2 * short : short
    ).peak
    let perToken = max(0, Double(large - small) / Double(rows * short))
    let fixed = max(0, Double(small) - perToken * Double(rows * short))
    activations = Int(min(fixed + perToken * Double(options.batch * options.length), 1e18)) + held + packed
  }

  /// Throws unless the run fits.
  public func check() throws {
    if total > available {
      throw TrainingError.memory(
        needed: total, available: available,
        detail: "\(parameters >> 20) MiB for parameters and optimiser, \(activations >> 20) MiB for activations")
    }
  }

  /// Bytes of one forward and backward above what was alive before: at the peak, and left in packed weights.
  private static func measure(
    _ model: LanguageModel, _ options: TrainingOptions, batch: Int, length: Int
  ) throws -> (peak: Int, left: Int) {
    var model = model
    model.computeType = options.computeType
    let tokens = try Tensor.zeros([batch, length], .int32)
    let piece = TokenPiece(tokens: tokens, targets: tokens, layout: .init(batch: batch, length: length))
    // With the embedding alone tracked, activations are those of training, but gradients of weights, which are counted with
    // the parameters, do not stand beside them: at short lengths they are larger, and would hide how activations grow.
    model.embedding = try model.embedding.tracked()
    let found = try Memory.measure {
      var state = try model.initialState(batch: batch)
      let loss = try model.loss(piece.tokens, targets: piece.targets, layout: piece.layout, state: &state, scale: 1)
      _ = try gradients(of: loss.total)
    }
    return (found.peak, max(0, found.left))
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
