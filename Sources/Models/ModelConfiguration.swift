import FermataFiles
import FermataMixers
import FermataTensors

/// A language model's config.json.
///
///     {"model_type": "fermata", "vocab_size": 257, "hidden_size": 256, "num_hidden_layers": 6,
///      "intermediate_size": 704, "mixers": [{"type": "gated_linear_attention", "num_heads": 4}, …]}
///
/// The list of mixers is repeated over the layers: two linear layers and one windowed attention give a hybrid stack.
public struct ModelConfiguration: Sendable, Equatable {
  public var vocabularySize: Int
  public var width: Int
  public var layers: Int
  public var feedForwardWidth: Int
  /// One object per layer of the repeated pattern: "type" and the mixer's own keys.
  public var mixers: [JSONValue]
  public var normEpsilon: Double
  /// The head reads the embedding's table.
  public var tiesEmbeddings: Bool
  /// "bytes": token ids are byte values, 256 begins a document.
  public var tokenizer: String
  public var beginToken: Int

  public static let modelType = "fermata"

  public init(
    vocabularySize: Int = 257, width: Int = 256, layers: Int = 6, feedForwardWidth: Int? = nil, mixers: [JSONValue],
    normEpsilon: Double = 1e-5, tiesEmbeddings: Bool = true, tokenizer: String = "bytes", beginToken: Int = 256
  ) throws {
    self.vocabularySize = vocabularySize
    self.width = width
    self.layers = layers
    // 8/3 of the width, rounded up to a multiple of 64 when large: as many parameters as a plain feed-forward of 4 widths.
    let third = max(1, min(width, Self.largestWidth)) * 8 / 3
    self.feedForwardWidth = feedForwardWidth ?? (width >= 128 ? (third + 63) / 64 * 64 : third)
    self.mixers = mixers
    self.normEpsilon = normEpsilon
    self.tiesEmbeddings = tiesEmbeddings
    self.tokenizer = tokenizer
    self.beginToken = beginToken
    try validate()
  }

  /// Settings of the mixer of a layer.
  public func mixer(ofLayer layer: Int) -> JSONValue { mixers[layer % mixers.count] }

  private static let keys = [
    "model_type", "architectures", "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "mixers",
    "rms_norm_eps", "tie_word_embeddings", "tokenizer", "bos_token_id", "torch_dtype", "fermata_version",
  ]

  /// From the contents of a config.json; unknown keys are refused.
  public init(json: JSONValue, place: String = "config.json") throws {
    guard let object = json.objectValue else {
      throw ConfigurationError(place, "expected an object, got \(json.kind)")
    }
    if let type = object["model_type"]?.stringValue, type != Self.modelType {
      throw ConfigurationError(
        place, "model_type is '\(type)'; this version reads '\(Self.modelType)' models, which `fermata train` makes")
    }
    try StrictJSON.checkKeys(object: object, allowed: Self.keys, where: place)
    func integer(_ key: String) throws -> Int? {
      guard let value = object[key] else { return nil }
      guard let number = value.intValue else {
        throw ConfigurationError(place, "\(key) must be a whole number, got \(value.kind)")
      }
      return number
    }
    func needed(_ key: String) throws -> Int {
      guard let number = try integer(key) else { throw ConfigurationError(place, "the key '\(key)' is missing") }
      return number
    }
    guard let mixers = object["mixers"]?.arrayValue else {
      throw ConfigurationError(place, "the key 'mixers' is missing or not a list")
    }
    try self.init(
      vocabularySize: try integer("vocab_size") ?? 257, width: needed("hidden_size"),
      layers: needed("num_hidden_layers"),
      feedForwardWidth: integer("intermediate_size"), mixers: mixers,
      normEpsilon: object["rms_norm_eps"]?.doubleValue ?? 1e-5,
      tiesEmbeddings: object["tie_word_embeddings"]?.boolValue ?? true,
      tokenizer: object["tokenizer"]?.stringValue ?? "bytes", beginToken: try integer("bos_token_id") ?? 256)
  }

  public var json: JSONValue {
    [
      "model_type": .string(Self.modelType), "architectures": ["FermataForCausalLM"],
      "vocab_size": .int(vocabularySize), "hidden_size": .int(width), "num_hidden_layers": .int(layers),
      "intermediate_size": .int(feedForwardWidth), "mixers": .array(mixers), "rms_norm_eps": .double(normEpsilon),
      "tie_word_embeddings": .bool(tiesEmbeddings), "tokenizer": .string(tokenizer), "bos_token_id": .int(beginToken),
    ]
  }

  private static let largestWidth = 65_536

  private func validate() throws {
    func check(_ name: String, _ value: Int, _ range: ClosedRange<Int>) throws {
      guard range.contains(value) else {
        throw ConfigurationError("model", "\(name) must be in \(range.lowerBound)...\(range.upperBound), got \(value)")
      }
    }
    try check("vocab_size", vocabularySize, 2...10_000_000)
    try check("hidden_size", width, 1...Self.largestWidth)
    try check("num_hidden_layers", layers, 1...1_000)
    try check("intermediate_size", feedForwardWidth, 1...1_000_000)
    try check("mixers (their number)", mixers.count, 1...layers)
    try check("bos_token_id", beginToken, 0...vocabularySize - 1)
    guard tokenizer == "bytes" else {
      throw ConfigurationError("model", "tokenizer must be \"bytes\", got \"\(tokenizer)\"")
    }
    guard normEpsilon > 0, normEpsilon < 1 else {
      throw ConfigurationError("model", "rms_norm_eps must be above 0 and below 1, got \(normEpsilon)")
    }
  }
}
