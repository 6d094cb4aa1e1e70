import FermataFiles

/// What the files beside a tokenizer.json add: which tokens begin and end a text.
enum TokenizerConfiguration {
  /// Reads tokenizer_config.json and generation_config.json in the folder of a tokenizer.json, where they are.
  /// - Parameters:
  ///   - hasPostProcessor: whether the tokenizer.json itself says what stands around a text.
  ///   - specialTokens: those by name that count where tokenizer_config.json does not name them.
  static func apply(
    beside path: String, to tokenizer: inout PipelineTokenizer, hasPostProcessor: Bool, specialTokens: [String: String]
  ) throws {
    let folder = PathQuery.split(path).folder
    let file = PathQuery.join(folder, "tokenizer_config.json")
    let configuration = PathQuery.status(file) == nil ? .null : try StrictJSON.readForeign(file)
    func token(_ key: String) -> Int? {
      // Either the text itself or an added token that holds it.
      let given = configuration[key] ?? specialTokens[key].map { .string($0) }
      let text = given?.stringValue ?? given?["content"]?.stringValue
      return text.flatMap { tokenizer.id(of: $0) }
    }
    let begin = token("bos_token") ?? tokenizer.prefix.first
    let end = token("eos_token")
    tokenizer.beginToken = begin
    tokenizer.endTokens = Set((end.map { [$0] } ?? []) + generationEnds(folder))
    guard !hasPostProcessor else { return }
    if configuration["add_bos_token"]?.boolValue == true, let begin { tokenizer.prefix = [begin] }
    if configuration["add_eos_token"]?.boolValue == true, let end { tokenizer.suffix = [end] }
  }

  private static func generationEnds(_ folder: String) -> [Int] {
    let file = PathQuery.join(folder, "generation_config.json")
    guard PathQuery.status(file) != nil, let value = try? StrictJSON.read(file)["eos_token_id"] else { return [] }
    return value.intValue.map { [$0] } ?? value.arrayValue?.compactMap(\.intValue) ?? []
  }
}
