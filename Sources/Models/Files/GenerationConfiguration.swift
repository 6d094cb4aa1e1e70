import FermataFiles
import FermataMixers

/// What a model's makers recommend for generation: generation_config.json, with token ids that it lacks from config.json.
public struct GenerationConfiguration: Sendable, Equatable {
  /// What logits are divided by before a token is drawn.
  public var temperature: Float?
  /// Only so many of the likeliest tokens are drawn from.
  public var topK: Int?
  /// Only the likeliest tokens whose probabilities sum up to this are drawn from.
  public var topP: Float?
  /// Only tokens at least so likely, as a share of the likeliest, are drawn from.
  public var minP: Float?
  /// What the logits of tokens that are there already are divided by (multiplied with, below 0).
  public var repetitionPenalty: Float?
  /// false: always the most likely token.
  public var samples: Bool?
  /// Tokens that end a text.
  public var endTokens: Set<Int> = []
  /// The first token that a decoder writes, whatever it predicts.
  public var forcedBeginToken: Int?
  /// The last one, where a text grows as long as it may.
  public var forcedEndToken: Int?
  /// Texts that beam search keeps at a time; 1: no search.
  public var beams = 1
  /// A text's score is its log-probability over its length to this power.
  public var lengthPenalty: Float = 1
  /// Whether the search ends as soon as there are as many finished texts as beams.
  public var stopsEarly = false
  /// The most tokens of a text, those it begins with included.
  public var maximumLength: Int?
  /// The fewest tokens of a text, those it begins with included.
  public var minimumLength = 0
  /// No run of so many tokens is written twice; 0: any may.
  public var unrepeatedRun = 0

  /// Nothing is recommended.
  public init() {}

  /// From a model folder; what is not there is left at its default.
  /// - Throws: `ConfigurationError` for a value of the wrong kind. Keys of other programs are nothing wrong here.
  public init(folder path: String) throws {
    let folder = AtomicFolder.current(path)
    func document(_ name: String) throws -> [String: JSONValue] {
      let file = folder + "/" + name
      return PathQuery.status(file) == nil ? [:] : try StrictJSON.readForeign(file).objectValue ?? [:]
    }
    let (own, model) = (try document("generation_config.json"), try document("config.json"))
    func found<Value>(_ key: String, _ kind: String, _ read: (JSONValue) -> Value?) throws -> Value? {
      guard let value = own[key] ?? (key.hasSuffix("_token_id") ? model[key] : nil), value != .null else { return nil }
      guard let result = read(value) else {
        throw ConfigurationError(folder + "/generation_config.json", "\(key) must be \(kind), got \(value.kind)")
      }
      return result
    }
    func number(_ key: String) throws -> Float? { try found(key, "a number", \.doubleValue).map { Float($0) } }
    func whole(_ key: String) throws -> Int? {
      try found(key, "a whole number", { $0.intValue ?? $0.doubleValue.flatMap { Int(exactly: $0.rounded()) } })
    }
    func tokens(_ key: String) throws -> [Int] {
      try found(key, "a token id or a list of them") { value in
        value.intValue.map { [$0] }
          ?? value.arrayValue.flatMap { list in
            let ids = list.compactMap(\.intValue)
            return ids.count == list.count ? ids : nil
          }
      } ?? []
    }
    temperature = try number("temperature")
    topK = try whole("top_k")
    topP = try number("top_p")
    minP = try number("min_p")
    repetitionPenalty = try number("repetition_penalty")
    samples = try found("do_sample", "true or false", \.boolValue)
    endTokens = Set(try tokens("eos_token_id"))
    forcedBeginToken = try whole("forced_bos_token_id")
    forcedEndToken = try tokens("forced_eos_token_id").first
    beams = max(1, min(try whole("num_beams") ?? 1, 1024))
    lengthPenalty = try number("length_penalty") ?? 1
    stopsEarly =
      try found("early_stopping", "true, false or \"never\"", { $0.boolValue ?? ($0.stringValue == nil ? nil : false) })
      ?? false
    maximumLength = try whole("max_length")
    minimumLength = max(0, try whole("min_length") ?? 0)
    unrepeatedRun = max(0, try whole("no_repeat_ngram_size") ?? 0)
  }
}
