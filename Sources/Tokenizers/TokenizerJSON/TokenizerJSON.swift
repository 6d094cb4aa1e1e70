import FermataFiles

/// Reads a tokenizer.json, the format of Hugging Face's `tokenizers`.
///
/// Truncation and padding, which the file may ask for, are left to whoever feeds a model; dropout of merges, which is for
/// training, is left out.
enum TokenizerJSON {
  static func load(_ path: String) throws -> any Tokenizer {
    let mapping = try FileMapping(path)
    return try withExtendedLifetime(mapping) { try load(mapping.bytes, path: path) }
  }

  /// Reads a tokenizer.json that stands in memory; what else is in the folder of `path` counts as beside it.
  /// - Parameter specialTokens: special tokens by name, where tokenizer_config.json does not name them.
  static func load(
    _ bytes: UnsafeRawBufferPointer, path: String, specialTokens: [String: String] = [:]
  ) throws -> any Tokenizer {
    var (parts, model) = try read(bytes, path)
    let normalizer = try Normalizers.make(parts["normalizer"], place: path)
    var steps = try PreTokenizers.make(parts["pre_tokenizer"], place: path)
    // Bytes need not be written as letters only to be read back: the model takes them as they are.
    if steps.last is ByteLevelPreTokenizer, model.canTakeBytes {
      steps.removeLast()
      model.usesByteAlphabet = true
    }
    let built = try model.build()
    var tokenizer = PipelineTokenizer(place: path, model: built)
    tokenizer.normalizer = normalizer
    tokenizer.preTokenizers = steps
    tokenizer.cutsBeforeMark = model.mayBeCut && steps.isEmpty && MetaspaceCuts.isExact(for: built.vocabulary)
    tokenizer.addedTokens = try AddedTokens(
      try addedTokens(parts["added_tokens"], built.vocabulary, place: path), normalizer: normalizer)
    tokenizer.decoder = try Decoders.make(parts["decoder"], place: path)
    try PostProcessor.apply(parts["post_processor"], to: &tokenizer)
    try TokenizerConfiguration.apply(
      beside: path, to: &tokenizer, hasPostProcessor: parts["post_processor"] != nil, specialTokens: specialTokens)
    return tokenizer
  }

  /// The small parts as values, and the model.
  private static func read(
    _ bytes: UnsafeRawBufferPointer, _ path: String
  ) throws -> (parts: [String: JSONValue], model: ModelDescription) {
    var parts: [String: JSONValue] = [:]
    var model: ModelDescription?
    var reader = JSONReader(bytes, place: path)
    try reader.object { reader, key in
      if key.elementsEqual("model".utf8) {
        model = try ModelDescription(&reader, place: path)
      } else {
        let name = String(decoding: key, as: UTF8.self)
        let value = try reader.value()
        if value != .null { parts[name] = value }
      }
    }
    try reader.end()
    guard let model else {
      throw TokenizerError(path, "it has no 'model'", advice: "a tokenizer.json of Hugging Face's tokenizers has one")
    }
    return (parts, model)
  }

  private static func addedTokens(
    _ value: JSONValue?, _ vocabulary: Vocabulary, place: String
  ) throws -> [AddedToken] {
    guard let value else { return [] }
    guard let list = value.arrayValue else { throw TokenizerError(place, "'added_tokens' is no list") }
    return try list.enumerated().map { index, value in
      let settings = Settings(value: value, place: "\(place): added_tokens[\(index)]")
      let content = Array(try settings.neededText("content").utf8)
      guard let stated = try settings.integer("id"), vocabulary.canHold(stated) else {
        throw settings.error("it has no 'id', or one that cannot be")
      }
      let isSpecial = try settings.flag("special") ?? false
      return AddedToken(
        // A token that the model has too keeps the model's id.
        id: vocabulary.id(content) ?? stated, content: content, isSpecial: isSpecial,
        isSingleWord: try settings.flag("single_word") ?? false, stripsLeft: try settings.flag("lstrip") ?? false,
        stripsRight: try settings.flag("rstrip") ?? false,
        isNormalized: try settings.flag("normalized") ?? !isSpecial)
    }
  }
}
