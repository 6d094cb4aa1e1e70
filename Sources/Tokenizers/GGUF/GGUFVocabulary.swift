import FermataFiles

/// The vocabulary of a GGUF file: tokens, what they are for, and the numbers of the special ones.
struct GGUFVocabulary {
  let file: GGUFFile
  /// Tokens as the file writes them; for byte-pair models in the byte alphabet.
  let vocabulary: Vocabulary
  /// What each token is for; empty when the file does not say.
  let kinds: [SentencePieceFile.Kind]
  let scores: [Float]

  init(_ file: GGUFFile) throws {
    self.file = file
    var vocabulary = Vocabulary(capacity: file.list("tokenizer.ggml.tokens")?.count ?? 0)
    try file.forEachText("tokenizer.ggml.tokens") { token, id in
      try vocabulary.insert(token, id: id, in: file.path)
    }
    self.vocabulary = vocabulary
    func numbers(_ key: String) throws -> [Double] { file.list(key) == nil ? [] : try file.numbers(key) }
    kinds = try numbers("tokenizer.ggml.token_type").map {
      SentencePieceFile.Kind(rawValue: Int(exactly: $0) ?? 1) ?? .normal
    }
    scores = try numbers("tokenizer.ggml.scores").map { Float($0) }
    for count in [kinds.count, scores.count] where count > 0 && count < vocabulary.size {
      throw TokenizerError(
        file.path, "it has \(vocabulary.size) tokens, but \(count) token types or scores", advice: "the file is damaged"
      )
    }
  }

  func kind(_ id: Int) -> SentencePieceFile.Kind { kinds.indices.contains(id) ? kinds[id] : .normal }

  /// A special token's id, where the file names one that is in the vocabulary.
  func special(_ name: String, or standard: Int? = nil) -> Int? {
    let id = file.integer("tokenizer.ggml.\(name)_token_id") ?? standard
    return id.flatMap { (0..<vocabulary.size).contains($0) ? $0 : nil }
  }

  func flag(_ name: String, or standard: Bool) -> Bool { file.bool("tokenizer.ggml.\(name)") ?? standard }

  /// Tokens that are looked for in text: user-defined ones always, control tokens where special tokens are asked for.
  func addedTokens() -> [AddedToken] {
    var tokens: [AddedToken] = []
    vocabulary.forEach { token, id in
      let kind = kind(id)
      guard kind == .control || kind == .unknown || kind == .userDefined else { return }
      tokens.append(AddedToken(id: id, content: Array(token), isSpecial: kind != .userDefined))
    }
    return withStripping(tokens)
  }

  /// Which tokens take white space along is not in these files; it follows from the model.
  private func withStripping(_ tokens: [AddedToken]) -> [AddedToken] {
    let model = (file.text("general.name") ?? "").lowercased()
    let kind = file.text("tokenizer.ggml.pre") ?? ""
    let isPhi3 = model.contains("phi-3") || model.contains("phi3")
    let masks = kind.hasPrefix("jina-v2") || kind == "modern-bert" ? ["<mask>", "[MASK]"] : []
    return tokens.map { token in
      var token = token
      let text = String(decoding: token.content, as: UTF8.self)
      token.stripsLeft = masks.contains(text)
      token.stripsRight = isPhi3 && !["<unk>", "<s>", "<|endoftext|>"].contains(text)
      return token
    }
  }

  /// Names that end a text or a turn in public models, beside the ids that the file gives.
  private static let endNames = [
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>",
    "<EOT>", "_<EOT>", "[EOT]", "<|end_of_text|>", "<end_of_utterance>", "<｜end▁of▁sentence｜>",
  ]

  var endTokens: Set<Int> {
    Set(["eos", "eot", "eom"].compactMap { special($0) } + Self.endNames.compactMap { vocabulary.id($0) })
  }

  /// The tokenizer's parts that do not depend on the kind of model.
  func tokenizer(_ model: any TokenModel, addsBegin: Bool, addsEnd: Bool) throws -> PipelineTokenizer {
    var tokenizer = PipelineTokenizer(place: file.path, model: model)
    tokenizer.addedTokens = try AddedTokens(addedTokens(), normalizer: nil)
    tokenizer.parsesSpecialTokensByDefault = false
    tokenizer.beginToken = special("bos")
    tokenizer.endTokens = endTokens
    if flag("add_bos_token", or: addsBegin), let begin = special("bos") { tokenizer.prefix = [begin] }
    if flag("add_eos_token", or: addsEnd), let end = special("eos") { tokenizer.suffix = [end] }
    return tokenizer
  }
}
