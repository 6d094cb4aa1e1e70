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
  /// Tokens that there are.
  public var vocabularySize: Int
  /// Features of a hidden state.
  public var width: Int
  /// Blocks; the list of mixers is repeated over them.
  public var layers: Int
  /// Features inside the feed-forward layers; 0 for blocks of mixers alone.
  public var feedForwardWidth: Int
  /// One object per layer of the repeated pattern: "type" and the mixer's own keys.
  public var mixers: [JSONValue]
  /// What norms add to the mean square.
  public var normEpsilon: Double
  /// The head reads the embedding's table.
  public var tiesEmbeddings: Bool
  /// "bytes": token ids below 256 are byte values, and `beginToken` begins a document. "none": token ids alone mean
  /// something, so that text can be neither read nor written.
  public var tokenizer: String
  /// The token that begins a document.
  public var beginToken: Int

  /// `model_type` of our own models.
  public static let modelType = "fermata"

  /// - Throws: `ConfigurationError` for sizes or mixers that cannot be.
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
    func found<Value>(_ key: String, _ kind: String, _ read: (JSONValue) -> Value?) throws -> Value? {
      guard let value = object[key] else { return nil }
      guard let result = read(value) else {
        throw ConfigurationError(place, "\(key) must be \(kind), got \(value.kind)")
      }
      return result
    }
    if let type = try found("model_type", "a text", \.stringValue), type != Self.modelType {
      throw ConfigurationError(
        place, "model_type is '\(type)'; this version reads '\(Self.modelType)' models, which `fermata train` makes")
    }
    try StrictJSON.checkKeys(object: object, allowed: Self.keys, where: place)
    func integer(_ key: String) throws -> Int? { try found(key, "a whole number", \.intValue) }
    func needed<Value>(_ key: String, _ value: Value?) throws -> Value {
      guard let value else { throw ConfigurationError(place, "the key '\(key)' is missing") }
      return value
    }
    // Written for other readers; read here only to refuse what cannot be.
    _ = try found("architectures", "a list", \.arrayValue)
    for key in ["torch_dtype", "fermata_version"] { _ = try found(key, "a text", \.stringValue) }
    try self.init(
      vocabularySize: try integer("vocab_size") ?? 257, width: needed("hidden_size", integer("hidden_size")),
      layers: needed("num_hidden_layers", integer("num_hidden_layers")),
      feedForwardWidth: integer("intermediate_size"),
      mixers: needed("mixers", found("mixers", "a list", \.arrayValue)),
      normEpsilon: found("rms_norm_eps", "a number", \.doubleValue) ?? 1e-5,
      tiesEmbeddings: found("tie_word_embeddings", "true or false", \.boolValue) ?? true,
      tokenizer: found("tokenizer", "a text", \.stringValue) ?? "bytes",
      beginToken: try integer("bos_token_id") ?? 256)
  }

  /// The document that config.json holds.
  public var json: JSONValue {
    [
      "model_type": .string(Self.modelType), "architectures": ["FermataForCausalLM"],
      "vocab_size": .int(vocabularySize), "hidden_size": .int(width), "num_hidden_layers": .int(layers),
      "intermediate_size": .int(feedForwardWidth), "mixers": .array(mixers), "rms_norm_eps": .double(normEpsilon),
      "tie_word_embeddings": .bool(tiesEmbeddings), "tokenizer": .string(tokenizer), "bos_token_id": .int(beginToken),
    ]
  }

  /// Throws unless token ids are bytes, as whatever reads or writes text needs.
  public func requireBytes(_ place: String = "model") throws {
    guard tokenizer == "bytes" else {
      throw ConfigurationError(
        place,
        "the tokenizer is \"\(tokenizer)\", so this model knows token ids and no text; use it through the library")
    }
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
    try check("intermediate_size", feedForwardWidth, 0...1_000_000)
    try check("mixers (their number)", mixers.count, 1...layers)
    try check("bos_token_id", beginToken, 0...vocabularySize - 1)
    guard ["bytes", "none"].contains(tokenizer) else {
      throw ConfigurationError("model", "tokenizer must be \"bytes\" or \"none\", got \"\(tokenizer)\"")
    }
    if tokenizer == "bytes" {
      try check("vocab_size of a model of bytes", vocabularySize, 257...10_000_000)
      try check("bos_token_id of a model of bytes", beginToken, 256...vocabularySize - 1)
    }
    guard normEpsilon > 0, normEpsilon < 1 else {
      throw ConfigurationError("model", "rms_norm_eps must be above 0 and below 1, got \(normEpsilon)")
    }
  }
}
