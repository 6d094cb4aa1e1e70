import Foundation
import FermataTensors

/// How the next token is drawn from logits.
public struct SamplingOptions: Sendable, Codable, Equatable {
  /// 0 takes the most likely token.
  public var temperature: Float = 0.8
  /// Only the k most likely tokens; 0: all.
  public var topK = 0
  /// The fewest tokens whose probabilities reach p (Holtzman et al. 2020); 1: all.
  public var topP: Float = 0.95
  /// Only tokens of at least this share of the most likely one's probability (Nguyen et al. 2024); 0: all.
  public var minP: Float = 0
  /// Logits of recent tokens are divided by this when positive, multiplied when negative (Keskar et al. 2019); 1: off.
  public var repetitionPenalty: Float = 1
  /// How many recent tokens the penalty looks at.
  public var penaltyWindow = 64
  /// Draws depend on the seed and on how many came before.
  public var seed: UInt64 = 0

  /// The defaults.
  public init() {}

  /// Throws when a setting makes no sense.
  public func validate() throws {
    func check(_ name: String, _ holds: Bool, _ expected: String, _ value: some CustomStringConvertible) throws {
      try require(holds, "sampling option '\(name)'", expected: expected, got: "\(value)")
    }
    try check("temperature", temperature >= 0 && temperature.isFinite, "a number of at least 0", temperature)
    try check("top-k", topK >= 0, "a whole number of at least 0", topK)
    try check("top-p", topP > 0 && topP <= 1, "a number above 0 and at most 1", topP)
    try check("min-p", minP >= 0 && minP < 1, "a number of at least 0 and below 1", minP)
    try check("penalty window", penaltyWindow >= 0, "a whole number of at least 0", penaltyWindow)
    try check(
      "repetition penalty", repetitionPenalty > 0 && repetitionPenalty.isFinite, "a number above 0", repetitionPenalty)
  }
}

/// Draws tokens. A value: copying it copies its place in the random stream, so a copy draws the same.
public struct Sampler: Sendable {
  /// How tokens are drawn.
  public let options: SamplingOptions
  private var random: RandomSource
  private var recent: [Int] = []

  /// - Throws: `TensorError` for settings outside their ranges.
  public init(_ options: SamplingOptions) throws {
    try options.validate()
    self.options = options
    random = RandomSource(seed: options.seed, stream: 2)
  }

  /// The next token from the logits of one position. `hidden` tokens are never drawn.
  public mutating func next(_ logits: [Float], hiding hidden: Set<Int> = []) throws -> Int {
    var scores = logits
    for token in hidden where scores.indices.contains(token) { scores[token] = -.infinity }
    penalise(&scores)
    let token = options.temperature == 0 ? try Self.argmax(scores) : try draw(scores)
    accept(token)
    return token
  }

  /// Takes note of a token that came from elsewhere (a prompt), for the repetition penalty.
  public mutating func accept(_ token: Int) {
    guard options.repetitionPenalty != 1 else { return }
    recent.append(token)
    if recent.count > options.penaltyWindow { recent.removeFirst(recent.count - options.penaltyWindow) }
  }

  private func penalise(_ scores: inout [Float]) {
    guard options.repetitionPenalty != 1 else { return }
    for token in Set(recent) where scores.indices.contains(token) {
      scores[token] =
        scores[token] > 0 ? scores[token] / options.repetitionPenalty : scores[token] * options.repetitionPenalty
    }
  }

  static func argmax(_ scores: [Float]) throws -> Int {
    var best = -1
    for (index, score) in scores.enumerated() where !score.isNaN && (best < 0 || score > scores[best]) { best = index }
    try require(
      best >= 0, "sampling", expected: "logits that are numbers", got: "NaN", advice: "the model's weights are damaged")
    return best
  }

  private mutating func draw(_ scores: [Float]) throws -> Int {
    let top = scores[try Self.argmax(scores)]
    try require(
      top.isFinite, "sampling", expected: "finite logits", got: "\(top)", advice: "the model's weights are damaged")
    // Most likely first; ties by index, so that a draw never depends on how sorting treats equals.
    var candidates = scores.indices.filter { scores[$0] > -.infinity }
      .map { (token: $0, weight: expf((scores[$0] - top) / options.temperature)) }
    if options.minP > 0 { candidates.removeAll { $0.weight < options.minP } }
    if options.topK > 0 || options.topP < 1 {
      var total = sum(candidates)
      if options.topK == 0 { candidates.removeAll { $0.weight < hopeless(of: total, count: scores.count) } }
      candidates.sort { $0.weight != $1.weight ? $0.weight > $1.weight : $0.token < $1.token }
      if options.topK > 0 {
        candidates = Array(candidates.prefix(options.topK))
        total = sum(candidates)
      }
      if options.topP < 1 { candidates = nucleus(candidates, of: total) }
    }
    var left = random.nextUniform() * sum(candidates)
    for candidate in candidates {
      left -= candidate.weight
      if left < 0 { return candidate.token }
    }
    return candidates[candidates.count - 1].token
  }

  private func sum(_ candidates: [(token: Int, weight: Float)]) -> Float {
    candidates.reduce(Float(0)) { $0 + $1.weight }
  }

  /// Tokens of less weight cannot be among the fewest whose probabilities reach p: all of them come to less than 1 − p
  /// together. So few are left to sort.
  private func hopeless(of total: Float, count: Int) -> Float { 0.5 * (1 - options.topP) * total / Float(count) }

  private func nucleus(_ candidates: [(token: Int, weight: Float)], of total: Float) -> [(token: Int, weight: Float)] {
    var sum: Float = 0
    for (index, candidate) in candidates.enumerated() {
      sum += candidate.weight
      if sum >= options.topP * total { return Array(candidates[...index]) }
    }
    return candidates
  }
}
