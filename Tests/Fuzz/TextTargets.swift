import FermataFiles
import FermataModels
import FermataTemplates
import FermataTokenizers
import Foundation

/// Loaders of texts: tokenizers, chat templates, settings of generation.
enum TextTargets {
  static let text = Array("Hello wörld 123 <s> it's <|endoftext|>\n\n  😀e\u{301} ﬁ Ａ 日本".utf8) + [0xFF, 0x80, 0x00]

  /// Loads a tokenizer and takes a text through it and back.
  private static func use(_ path: String) throws {
    let tokenizer = try TokenizerFiles.load(path)
    let ids = try tokenizer.encode(text, addingSpecialTokens: true, parsingSpecialTokens: true)
    _ = try tokenizer.decode(ids, skippingSpecialTokens: false)
    _ = try tokenizer.decode(Array(0..<min(40, tokenizer.vocabularySize)), skippingSpecialTokens: true)
  }

  static func tokenizerJSON(_ goldens: JSONValue) throws -> Target {
    let models = goldens["models"]
    let seeds = try (goldens["tokenizers"]?.arrayValue ?? []).compactMap { entry -> Seed? in
      guard let model = entry["model"]?.stringValue.flatMap({ models?[$0]?.stringValue }), let parts = entry["parts"]
      else { return nil }
      let head = try parts.text().dropLast() + ",\"version\":\"1.0\",\"model\":"
      return Seed(text: head + shortened(model) + "}", head: head.utf8.count)
    }
    return Target("tokenizer.json", seeds, dictionary: Mutator.words) { file, _, place in
      try use(place.write(file, to: "tokenizer.json"))
    }
  }

  /// A model of a tokenizer without most of its vocabulary: what is small is tried often.
  private static func shortened(_ model: String) -> String {
    guard case .object(var members)? = try? StrictJSON.parse(Data(model.utf8), place: "model") else { return model }
    if let list = members["vocab"]?.arrayValue { members["vocab"] = .array(Array(list.prefix(80))) }
    if let vocabulary = members["vocab"]?.objectValue {
      // Merges come in the order of the ids that they make, behind the letters.
      let letters = vocabulary.count - (members["merges"]?.arrayValue?.count ?? vocabulary.count - 60)
      let kept = vocabulary.filter { ($0.value.intValue ?? 0) < letters + 20 }
      members["vocab"] = .object(kept)
      members["merges"] = members["merges"]?.arrayValue.map { merges in
        .array(
          merges.filter { merge in
            let sides = merge.arrayValue?.compactMap(\.stringValue) ?? []
            let prefix = members["continuing_subword_prefix"]?.stringValue ?? ""
            guard sides.count == 2 else { return false }
            let whole = sides[0] + sides[1].dropFirst(prefix.count)
            return kept[sides[0]] != nil && kept[sides[1]] != nil && kept[whole] != nil
          })
      }
    }
    return (try? JSONValue.object(members).text()) ?? model
  }

  static let tokenizerSettings = Target(
    "tokenizer_config.json",
    [
      Seed(
        text: """
          {"add_bos_token":true,"add_eos_token":false,"bos_token":"<s>","eos_token":{"__type":"AddedToken","content":"</s>",\
          "lstrip":false},"added_tokens_decoder":{"0":{"content":"<unk>","special":true}},"model_max_length":1e30,\
          "chat_template":"{% for m in messages %}{{ m.role ~ ': ' ~ m.content }}{% endfor %}","clean_up_tokenization_spaces":false}
          """),
      Seed(
        text: """
          {"bos_token":null,"eos_token":"</s>","chat_template":[{"name":"tool_use","template":"{{ tools }}"},{"name":"default",\
          "template":"{{ bos_token }}{{ messages[0]['content'] }}"}]}
          """),
    ], dictionary: Mutator.words, allowance: templateBytes
  ) { file, _, place in
    let model = #"{"model":{"type":"WordLevel","vocab":{"<unk>":0,"<s>":1,"</s>":2,"Hello":3}}}"#
    try place.write(Array(model.utf8), to: "tokenizer.json")
    try place.write(file, to: "tokenizer_config.json")
    try use(place.file("tokenizer.json"))
    _ = try ChatTemplate(folder: place.path).render(
      [ChatMessage(role: "user", content: "Hi")], addingGenerationPrompt: true)
  }

  /// The files of a tokenizer that has no tokenizer.json, each damaged in turn.
  static let separateFiles: Target = {
    let pair: [(name: String, text: String)] = [
      ("vocab.json", #"{"!":0,"a":1,"b":2,"Ġ":3,"ab":4,"Ġa":5,"<|endoftext|>":6}"#),
      ("merges.txt", "#version: 0.2\na b\nĠ a\n"),
      (
        "tokenizer_config.json",
        #"{"tokenizer_class":"Qwen2Tokenizer","added_tokens_decoder":{"7":{"content":"<s>","special":true}},"eos_token":"<s>"}"#
      ),
    ]
    let words: [(name: String, text: String)] = [
      ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\n##s\n"),
      (
        "tokenizer_config.json",
        #"{"tokenizer_class":"BertTokenizer","do_lower_case":false,"mask_token":{"content":"[MASK]"}}"#
      ),
    ]
    let files = pair.map { ($0, pair) } + words.map { ($0, words) }
    return Target("separate-files", files.map { Seed(text: $0.0.text) }, dictionary: Mutator.words) {
      file, seed, place in
      let folder = try place.folder(seed < pair.count ? "pair" : "words")
      for (name, text) in files[seed].1 { try folder.write(Array(text.utf8), to: name) }
      try folder.write(file, to: files[seed].0.name)
      try use(folder.path)
    }
  }()

  static let generation = Target(
    "generation_config.json",
    [
      Seed(
        text: """
          {"temperature":0.7,"top_k":50,"top_p":0.95,"min_p":0.05,"repetition_penalty":1.1,"do_sample":true,"eos_token_id":[2,3],\
          "forced_bos_token_id":0,"forced_eos_token_id":[2],"num_beams":4,"length_penalty":2.0,"early_stopping":"never",\
          "max_length":142,"min_length":56,"no_repeat_ngram_size":3,"transformers_version":"5.0"}
          """)
    ], dictionary: Mutator.words
  ) { file, _, place in
    try place.write(Array(#"{"eos_token_id":2}"#.utf8), to: "config.json")
    try place.write(file, to: "generation_config.json")
    _ = try GenerationConfiguration(folder: place.path)
  }

  /// The most bytes that rendering a small template may take.
  static let templateBytes = 1 << 30

  static func templates(_ goldens: JSONValue) throws -> Target {
    let cases = (goldens.arrayValue ?? []).compactMap { entry in
      entry["template"]?.stringValue.map {
        (template: $0, values: (entry["values"]?.objectValue ?? [:]).mapValues { OrderedJSON($0) })
      }
    }
    let seeds = cases.map { Seed(text: $0.template) }
    let words = [
      "if", "else", "elif", "endif", "for", "in", "endfor", "set", "endset", "macro", "endmacro", "call", "filter",
      "break", "continue", "recursive", "loop", "namespace", "range", "is", "not", "and", "or", "defined", "none",
      "messages", "tojson", "join", "map", "selectattr", "sort", "groupby", "unique", "items", "replace", "split",
      "[::-1]",
      "~", "|", "-", "**", "//", "%", "raise_exception", "strftime_now", "caller", "self", "generation",
    ].map { Array($0.utf8) }
    return Target("template", seeds, dictionary: Mutator.words + words, allowance: templateBytes) { file, seed, _ in
      _ = try Template(String(decoding: file, as: UTF8.self)).render(cases[seed].values)
    }
  }

  // MARK: Binary vocabularies

  static func sentencePieces(_ goldens: JSONValue) throws -> Target {
    let seeds = (goldens["sentence_pieces"]?.arrayValue ?? []).compactMap { entry in
      entry["file"]?.stringValue.flatMap { Data(base64Encoded: $0) }.map { fields(Array($0)) }
    }
    return Target("sentencepiece", seeds, dictionary: Mutator.numbers) { file, _, place in
      try use(place.write(file, to: "tokenizer.model"))
    }
  }

  /// The fields of a protocol buffer, settings and special pieces first: of ordinary pieces a few are enough.
  private static func fields(_ bytes: [UInt8]) -> Seed {
    var parts: [[UInt8]] = []
    var (start, pieces) = (0, 0)
    while start < bytes.count {
      var end = start + 1
      var (length, shift) = (0, 0)
      repeat {
        length |= Int(bytes[end] & 0x7F) << shift
        shift += 7
        end += 1
      } while bytes[end - 1] >= 0x80
      end += length
      if bytes[start] == 0x0A { pieces += 1 }
      if bytes[start] != 0x0A || pieces < 300 { parts.append(Array(bytes[start..<end])) }
      start = end
    }
    return Seed(parts.filter { $0[0] != 0x0A } + parts.filter { $0[0] == 0x0A }, head: 8)
  }

  static let gguf = Target(
    "gguf", GGUFSeeds.all, dictionary: Mutator.numbers + ["llama", "gpt2", "bert", "t5", "rwkv"].map { Array($0.utf8) }
  ) { file, _, place in
    try use(place.write(file, to: "model.gguf"))
  }
}
