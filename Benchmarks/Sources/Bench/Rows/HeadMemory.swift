import Fermata
import Foundation

/// Cross-entropy of 4,096 tokens of width 512 over a vocabulary of 128,000, with gradients: the most memory at one time
/// beyond inputs and gradients, as the system sees it.
struct HeadMemory: Row {
  private static let (rows, width, vocabulary) = (4096, 512, 128_000)
  let name = "head-memory"
  let title = "cross-entropy, 4,096 tokens, width 512, vocabulary 128,000, f32: peak extra memory"
  let quantity = Quantity.megabytes
  let goal = Goal.atMost(64)
  let peer: PeerProgram? = PeerProgram(
    module: "head_memory",
    settings: ["rows": .int(rows), "width": .int(width), "vocabulary": .int(vocabulary)])

  private struct Run {
    let hidden, weight, targets: Tensor

    init(rows: Int, width: Int, vocabulary: Int) throws {
      var random = RandomSource(seed: 8)
      hidden = try random.normal([rows, width])
      weight = try random.normal([vocabulary, width], deviation: 0.05)
      targets = try Tensor((0..<rows).map { Int32($0 * 31 % vocabulary) }, shape: [rows])
    }

    func callAsFunction(_ loss: (Tensor, Tensor, Tensor) throws -> Tensor) throws -> [Tensor] {
      let leaves = [hidden.tracked(), weight.tracked()]
      let value = try loss(leaves[0], leaves[1], targets)
      let found = try gradients(of: value)
      return [value] + leaves.compactMap { found[$0] }
    }
  }

  private static func fused(_ hidden: Tensor, _ weight: Tensor, _ targets: Tensor) throws -> Tensor {
    try crossEntropy(hidden: hidden, weight: weight, targets: targets, scale: 1 / Float(targets.count)).total
  }

  private static func simple(_ hidden: Tensor, _ weight: Tensor, _ targets: Tensor) throws -> Tensor {
    let (rows, vocabulary) = (hidden.shape[0], weight.shape[0])
    var picks = [Float](repeating: 0, count: rows * vocabulary)
    for (row, target) in try targets.values(as: Int32.self).enumerated() {
      picks[row * vocabulary + Int(target)] = -1 / Float(rows)
    }
    let logits = try matmul(hidden, weight.transposed(0, 1))
    return try (logits.logSoftmax() * Tensor(picks, shape: [rows, vocabulary])).sum()
  }

  func prepare() throws -> Subject {
    let small = try Run(rows: 40, width: 24, vocabulary: 3001)
    let checks = try zip(["loss", "dhidden", "dweight"], zip(small(Self.fused), small(Self.simple))).map {
      try Check("\($0) against simple operations", $1.0, $1.1, allowed: 1e-5)
    }
    let run = try Run(rows: Self.rows, width: Self.width, vocabulary: Self.vocabulary)
    return Subject(
      checks: checks,
      sample: {
        Memory.releaseCache()
        let gradientBytes = Double(run.hidden.byteCount + run.weight.byteCount)
        return try ResidentMemory.growth { _ = try run(Self.fused) } - gradientBytes
      })
  }
}

/// What the system says this process has in memory.
enum ResidentMemory {
  /// The most there was during the body above what there was before it, in bytes.
  static func growth(_ body: () throws -> Void) throws -> Double {
    // 5 sets the peak back to what is in memory now.
    try Data("5".utf8).write(to: URL(fileURLWithPath: "/proc/self/clear_refs"))
    let before = try kilobytes("VmRSS:")
    try body()
    return 1024 * (try kilobytes("VmHWM:") - before)
  }

  private static func kilobytes(_ field: String) throws -> Double {
    let text = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = text.split(separator: "\n").first { $0.hasPrefix(field) }
    guard let value = line?.split(whereSeparator: { " \t".contains($0) }).dropFirst().first.flatMap({ Double($0) })
    else {
      throw BenchError("/proc/self/status has no \(field)")
    }
    return value
  }
}
