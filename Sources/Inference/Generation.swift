import FermataModels
import FermataTensors
import Foundation

/// When generation ends and how tokens are drawn.
public struct GenerationOptions: Sendable {
  public var sampling = SamplingOptions()
  /// The most tokens to generate; nil: without end.
  public var limit: Int? = 256
  /// Texts that end generation; they are not part of what is given out.
  public var stops: [String] = []
  /// Go on with a new document when the model ends one, instead of stopping.
  public var ignoresEnd = false

  public init() {}
}

/// Why generation ended.
public enum EndReason: String, Sendable, Codable {
  case length, stop, endOfDocument = "end_of_document", cancelled
}

/// Draws bytes from a session, one at a time, holding back what might be the beginning of a stop text.
public struct Generator: Sendable {
  public private(set) var session: StreamingSession
  public private(set) var generated = 0
  public private(set) var end: EndReason?
  private var sampler: Sampler
  private let options: GenerationOptions
  private let stops: [[UInt8]]
  private var held: [UInt8] = []

  /// A generator that goes on from a session; a session that has read nothing begins a document first.
  public init(_ session: StreamingSession, prompt: [UInt8] = [], options: GenerationOptions = GenerationOptions())
    throws
  {
    sampler = try Sampler(options.sampling)
    try require(
      options.limit.map { $0 >= 0 } ?? true, "generation", expected: "a limit of at least 0",
      got: "\(options.limit ?? 0)")
    self.options = options
    stops = options.stops.filter { !$0.isEmpty }.map { Array($0.utf8) }
    self.session = session
    let begin = session.position == 0 ? [session.model.configuration.beginToken] : []
    try self.session.read(begin + prompt.map { Int($0) })
    if self.session.logits == nil {
      throw TensorError(
        "generation", expected: "a prompt to go on from", got: "a loaded state and no prompt",
        advice: "give at least one byte of prompt with --load-state")
    }
    for byte in prompt { sampler.accept(Int(byte)) }
  }

  /// The next bytes that are certain to be part of the output; nil at the end. May be empty while a stop text is possible.
  public mutating func next() throws -> [UInt8]? {
    if end != nil { return nil }
    if let limit = options.limit, generated >= limit { return finish(.length) }
    guard let logits = session.logits else { return finish(.length) }
    let begin = session.model.configuration.beginToken
    let token = try sampler.next(logits, hiding: options.ignoresEnd ? begin : nil)
    generated += 1
    if token == begin || token > 255 { return finish(.endOfDocument) }
    try session.read([token])
    held.append(UInt8(token))
    if let stop = stops.first(where: { held.ends(with: $0) }) {
      held.removeLast(stop.count)
      return finish(.stop)
    }
    let pending = stops.map { overlap(held, $0) }.max() ?? 0
    let ready = Array(held.dropLast(pending))
    held = Array(held.suffix(pending))
    return ready
  }

  /// Gives out what was held back.
  private mutating func finish(_ reason: EndReason) -> [UInt8]? {
    end = reason
    defer { held = [] }
    return held.isEmpty ? nil : held
  }

  /// The longest end of `bytes` that a stop text begins with, short of all of it.
  private func overlap(_ bytes: [UInt8], _ stop: [UInt8]) -> Int {
    let longest = min(bytes.count, stop.count - 1)
    guard longest > 0 else { return 0 }
    return (1...longest).reversed().first { bytes.suffix($0).elementsEqual(stop.prefix($0)) } ?? 0
  }
}

extension [UInt8] {
  fileprivate func ends(with other: [UInt8]) -> Bool {
    count >= other.count && suffix(other.count).elementsEqual(other)
  }
}

extension LanguageModel {
  /// Text as it is generated, in whole characters: `for try await text in model.stream(from: "Once")`.
  /// Nothing is generated before it is asked for, so a slow reader costs no memory; cancelling the task that iterates ends
  /// generation at the next token.
  public func stream(
    from prompt: String, options: GenerationOptions = GenerationOptions()
  ) -> AsyncThrowingStream<String, any Error> {
    let producer = TextProducer(model: self, prompt: Array(prompt.utf8), options: options)
    return AsyncThrowingStream { try await producer.next() }
  }
}

/// Generates on demand, one piece of text at a time.
private actor TextProducer {
  private let model: LanguageModel
  private let prompt: [UInt8]
  private let options: GenerationOptions
  private var generator: Generator?
  private var decoder = UTF8Text()
  private var isFinished = false

  init(model: LanguageModel, prompt: [UInt8], options: GenerationOptions) {
    (self.model, self.prompt, self.options) = (model, prompt, options)
  }

  func next() throws -> String? {
    if isFinished { return nil }
    var current = try generator ?? Generator(StreamingSession(model), prompt: prompt, options: options)
    generator = nil
    while !Task.isCancelled {
      guard let bytes = try current.next() else { break }
      let text = decoder.push(bytes)
      if !text.isEmpty {
        generator = current
        return text
      }
    }
    isFinished = true
    let rest = decoder.finish()
    return rest.isEmpty ? nil : rest
  }
}
