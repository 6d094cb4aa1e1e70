import FermataModels
import FermataTensors
import FermataTokenizers
import Foundation

/// When generation ends and how tokens are drawn.
public struct GenerationOptions: Sendable {
  /// How tokens are drawn.
  public var sampling = SamplingOptions()
  /// The most tokens to generate; nil: without end.
  public var limit: Int? = 256
  /// Texts that end generation; they are not part of what is given out.
  public var stops: [String] = []
  /// Tokens that end a document beside those that the tokenizer knows.
  public var endTokens: Set<Int> = []
  /// Go on with a new document when the model ends one, instead of stopping.
  public var ignoresEnd = false

  /// The defaults: sampled text of 256 tokens at most.
  public init() {}
}

/// Why generation ended.
public enum EndReason: String, Sendable, Codable {
  /// It is as long as it may be; it holds a stop text; the model ended it; the reader left.
  case length, stop, endOfDocument = "end_of_document", cancelled
}

/// Draws tokens from a session, one at a time, and gives out their bytes, holding back what might be the beginning of a
/// stop text.
public struct Generator: Sendable {
  /// What has been read so far, what was generated included.
  public private(set) var session: StreamingSession
  /// Tokens that were generated.
  public private(set) var generated = 0
  /// Why it ended; nil while it has not.
  public private(set) var end: EndReason?
  private var sampler: Sampler
  private let options: GenerationOptions
  private let stops: [[UInt8]]
  private let endTokens: Set<Int>
  /// Tokens from this number on have no text: weights are often padded to a round number of them.
  private let tokensWithText: Int
  private var decoder: any TokenDecoder
  private var held: [UInt8] = []

  /// Whether the session has read exactly what was given out: not after a stop text, nor with bytes held back.
  public var saidAllItRead: Bool { end != .stop && held.isEmpty }

  /// A generator that goes on from a session; a session that has read nothing begins a document first.
  /// - Parameter tokenizer: nil: the model's bytes.
  public init(
    _ session: StreamingSession, tokenizer: (any Tokenizer)? = nil, prompt: [UInt8] = [],
    options: GenerationOptions = GenerationOptions()
  ) throws {
    let tokenizer = try tokenizer ?? session.model.byteTokenizer()
    let tokens = try tokenizer.encode(
      prompt, addingSpecialTokens: session.position == 0, parsingSpecialTokens: false)
    try self.init(session, tokenizer: tokenizer, tokens: tokens, options: options)
  }

  /// A generator that reads tokens first.
  public init(
    _ session: StreamingSession, tokenizer: any Tokenizer, tokens: [Int],
    options: GenerationOptions = GenerationOptions()
  ) throws {
    sampler = try Sampler(options.sampling)
    try require(
      options.limit.map { $0 >= 0 } ?? true, "generation", expected: "a limit of at least 0",
      got: "\(options.limit ?? 0)")
    self.options = options
    stops = options.stops.filter { !$0.isEmpty }.map { Array($0.utf8) }
    self.session = session
    endTokens = tokenizer.endTokens.union(options.endTokens).union(session.model.otherThanBytes)
    tokensWithText = session.model is LanguageModel ? .max : tokenizer.vocabularySize
    decoder = tokenizer.makeDecoder(skippingSpecialTokens: true)
    try self.session.read(tokens)
    if self.session.logits == nil {
      throw TensorError(
        "generation", expected: "a prompt to go on from", got: "none",
        advice: "give at least one token of prompt")
    }
    for token in tokens where token != tokenizer.beginToken { sampler.accept(token) }
  }

  /// The next bytes that are certain to be part of the output; nil at the end. May be empty while a stop text is possible.
  public mutating func next() throws -> [UInt8]? {
    if end != nil { return nil }
    if let limit = options.limit, generated >= limit { return try finish(.length) }
    if let most = session.maximumLength, session.position >= most { return try finish(.length) }
    guard let logits = session.logits else { return try finish(.length) }
    let token = try sampler.next(Array(logits.prefix(tokensWithText)), hiding: options.ignoresEnd ? endTokens : [])
    generated += 1
    if endTokens.contains(token) { return try finish(.endOfDocument) }
    try session.read([token])
    held += try decoder.push(token)
    if let place = stops.compactMap({ held.firstPlace(of: $0) }).min() {
      held.removeLast(held.count - place)
      return try finish(.stop)
    }
    let pending = stops.map { overlap(held, $0) }.max() ?? 0
    let ready = Array(held.dropLast(pending))
    held = Array(held.suffix(pending))
    return ready
  }

  /// Gives out what was held back.
  private mutating func finish(_ reason: EndReason) throws -> [UInt8]? {
    end = reason
    if reason != .stop { held += try decoder.finish() }
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
  /// Where another list of bytes begins first; a token may bring a stop text with something behind it.
  fileprivate func firstPlace(of other: [UInt8]) -> Int? {
    guard count >= other.count else { return nil }
    return (0...count - other.count).first { self[$0..<$0 + other.count].elementsEqual(other) }
  }
}

extension CausalModel {
  /// The tokenizer of a model whose tokens are bytes.
  /// - Throws: `TensorError` or `ConfigurationError` for other models.
  public func byteTokenizer() throws -> ByteTokenizer {
    guard let own = self as? LanguageModel else {
      throw TensorError(
        "text", expected: "a model of bytes", got: "one with a vocabulary of \(vocabularySize) tokens",
        advice: "give its tokenizer")
    }
    try own.configuration.requireBytes()
    return ByteTokenizer(beginToken: own.configuration.beginToken)
  }

  /// In a model of bytes, whatever is none ends the document.
  fileprivate var otherThanBytes: Range<Int> {
    self is LanguageModel ? 256..<max(256, vocabularySize) : 0..<0
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
