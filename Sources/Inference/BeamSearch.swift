import FermataModels
import FermataTensors
import RealModule

/// How beams grow and end.
public struct BeamOptions: Sendable {
  /// How many texts are kept at a time.
  public var beams = 4
  /// Sums of logarithms are divided by length to this power: above 0 favours long texts.
  public var lengthPenalty: Float = 1
  /// End as soon as there are as many ended texts as beams, though others might still become better.
  public var stopsEarly = false
  /// The most tokens to write.
  public var limit = 128
  /// The fewest tokens of a text, before any of `endTokens` may come.
  public var minimum = 0
  /// Tokens that end a text.
  public var endTokens: Set<Int> = []
  /// The first token, whatever is predicted; nil: the likeliest.
  public var forcedBegin: Int?
  /// The last token of a text that grows to `limit`; nil: whatever is likeliest.
  public var forcedEnd: Int?
  /// No run of so many tokens is written twice; 0: any may.
  public var unrepeatedRun = 0
  /// Tokens from this number on are never written: weights are often padded to a round number of them.
  public var vocabularySize = Int.max

  /// Four texts at a time, of up to 128 tokens.
  public init() {}

  /// What a model's makers recommend, and the most tokens of a text.
  public init(_ configuration: GenerationConfiguration, limit: Int) {
    beams = configuration.beams
    lengthPenalty = configuration.lengthPenalty
    stopsEarly = configuration.stopsEarly
    self.limit = limit
    minimum = configuration.minimumLength
    endTokens = configuration.endTokens
    forcedBegin = configuration.forcedBeginToken
    forcedEnd = configuration.forcedEndToken
    unrepeatedRun = configuration.unrepeatedRun
  }
}

/// Beam search (Lowerre 1976; with length penalty as Wu et al. 2016 have it): the likeliest continuation that keeping the
/// best few texts at every step finds. A beam is a copy of a session: states are values, so beams share what they have
/// in common.
public enum BeamSearch {
  private struct Beam {
    var session: StreamingSession
    var tokens: [Int]
    var score: Float
  }

  private struct Candidate {
    var beam: Int
    var token: Int
    var score: Float
  }

  /// The tokens of the best text that goes on from a session, without the one that ends it, and its score.
  /// - Throws: `TensorError` for a session that has read nothing, or numbers that make no sense.
  public static func run(_ session: StreamingSession, options: BeamOptions) throws -> (tokens: [Int], score: Float) {
    try require(
      session.logits != nil && options.beams > 0 && options.limit >= 0, "beam search",
      expected: "a session that has read something, at least one beam and a limit of at least 0",
      got: "\(options.beams) beams, limit \(options.limit)")
    let start = session.position
    var options = options
    if let most = session.maximumLength { options.limit = min(options.limit, max(0, most - start)) }
    var running = [Beam(session: session, tokens: [], score: 0)]
    var finished: [(tokens: [Int], score: Float)] = []
    for length in stride(from: 1, through: options.limit, by: 1) {
      let found = try candidates(running, options, written: length - 1, before: start)
      let scale = Float.pow(Float(length), options.lengthPenalty)
      var next: [Beam] = []
      for (rank, candidate) in found.enumerated() {
        let parent = running[candidate.beam]
        let isEnd = options.endTokens.contains(candidate.token)
        if isEnd || length == options.limit {
          // Only the best few may end; the rest are there so that enough go on.
          guard rank < options.beams, !(options.stopsEarly && finished.count == options.beams) else { continue }
          finished.append((parent.tokens + (isEnd ? [] : [candidate.token]), candidate.score / scale))
        } else if next.count < options.beams {
          var child = parent
          child.score = candidate.score
          child.tokens.append(candidate.token)
          try child.session.read([candidate.token])
          next.append(child)
        }
      }
      finished = Array(finished.sorted { $0.score > $1.score }.prefix(options.beams))
      running = next
      guard let best = running.first else { break }
      if finished.count == options.beams, let worst = finished.last {
        if options.stopsEarly || best.score / scale <= worst.score { break }
      }
    }
    return finished.first ?? ([], 0)
  }

  /// The best continuations of all beams by one token, the best first: enough that as many as there are beams go on even
  /// if every end is among them.
  private static func candidates(_ running: [Beam], _ options: BeamOptions, written: Int, before: Int) throws
    -> [Candidate]
  {
    let count = max(2, 1 + options.endTokens.count) * options.beams
    var found: [Candidate] = []
    for (index, beam) in running.enumerated() {
      let scores = try logProbabilities(beam, options, written: written, before: before)
      let best = scores.indices.filter { scores[$0] > -.infinity }.sorted { (scores[$1], $0) < (scores[$0], $1) }
      found += best.prefix(count).map { Candidate(beam: index, token: $0, score: beam.score + scores[$0]) }
    }
    return Array(
      found.enumerated().sorted { ($1.element.score, $0.offset) < ($0.element.score, $1.offset) }.map(\.element)
        .prefix(count))
  }

  private static func logProbabilities(
    _ beam: Beam, _ options: BeamOptions, written: Int, before: Int
  ) throws -> [Float] {
    let logits = Array((beam.session.logits ?? []).prefix(options.vocabularySize))
    let forced = written == 0 ? options.forcedBegin : written == options.limit - 1 ? options.forcedEnd : nil
    if let forced, logits.indices.contains(forced) {
      var scores = [Float](repeating: -.infinity, count: logits.count)
      scores[forced] = 0
      return scores
    }
    let top = logits[try Sampler.argmax(logits)]
    let sum = top + Float(Double.log(logits.reduce(0.0) { $0 + Double(Float.exp($1 - top)) }))
    var scores = logits.map { $0 - sum }
    if before + written < options.minimum {
      for token in options.endTokens where scores.indices.contains(token) { scores[token] = -.infinity }
    }
    for token in repeated(beam.tokens, run: options.unrepeatedRun) where scores.indices.contains(token) {
      scores[token] = -.infinity
    }
    return scores
  }

  /// Tokens that would end a run of this length which has been written before.
  private static func repeated(_ tokens: [Int], run: Int) -> [Int] {
    guard run > 0, tokens.count >= run else { return [] }
    let recent = tokens.suffix(run - 1)
    return (0...tokens.count - run).filter { tokens[$0..<$0 + run - 1].elementsEqual(recent) }
      .map { tokens[$0 + run - 1] }
  }
}
