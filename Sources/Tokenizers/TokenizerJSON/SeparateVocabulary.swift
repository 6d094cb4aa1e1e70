import FermataFiles
import Foundation

/// Tokenizers in separate files, as they were before tokenizer.json: vocab.json and merges.txt, or vocab.txt, with
/// tokenizer_config.json. They become the tokenizer.json that `transformers` makes of them.
enum SeparateVocabulary {
  /// What a class of `transformers` is made of.
  private struct Kind: Sendable {
    /// `tokenizer_class`, without "Fast".
    var classes: [String]
    /// `model_type` of models that use it where no class is named.
    var modelTypes: [String]
    /// Special tokens where tokenizer_config.json names none.
    var specialTokens: [String: String]
    /// The members of the tokenizer.json beside model and added tokens. `special` gives a special token
    /// with its id.
    var parts: @Sendable (_ settings: JSONValue, _ special: (String) -> JSONValue) -> [String: JSONValue]
  }

  private static let ends = "<|endoftext|>"

  private static let bytePairs: [Kind] = [
    Kind(
      classes: ["GPT2Tokenizer"], modelTypes: ["gpt2"],
      specialTokens: ["bos_token": ends, "eos_token": ends, "unk_token": ends],
      parts: { settings, _ in ["pre_tokenizer": byteLevel(settings, splits: true), "decoder": byteLevel(settings)] }),
    Kind(
      classes: ["Qwen2Tokenizer"], modelTypes: ["qwen2", "qwen3"],
      specialTokens: ["eos_token": ends, "unk_token": ends, "pad_token": ends],
      parts: { settings, _ in
        let split: JSONValue = [
          "type": "Split", "pattern": ["Regex": .string(PreTokenizerKind.qwen2)], "behavior": "Isolated",
          "invert": false,
        ]
        return [
          "normalizer": ["type": "NFC"], "decoder": byteLevel(settings),
          "pre_tokenizer": ["type": "Sequence", "pretokenizers": [split, byteLevel(settings, splits: false)]],
        ]
      }),
    Kind(
      classes: ["RobertaTokenizer", "BartTokenizer"], modelTypes: ["roberta", "bart"],
      specialTokens: [
        "bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>", "unk_token": "<unk>",
        "pad_token": "<pad>", "mask_token": "<mask>",
      ],
      parts: { settings, special in
        [
          "pre_tokenizer": byteLevel(settings, splits: true), "decoder": byteLevel(settings),
          "post_processor": ["type": "RobertaProcessing", "sep": special("sep_token"), "cls": special("cls_token")],
        ]
      }),
  ]

  private static let words: [Kind] = [
    Kind(
      classes: ["BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"],
      modelTypes: ["bert", "distilbert", "electra"],
      specialTokens: [
        "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
      ],
      parts: { settings, special in
        let normalizer: JSONValue = [
          "type": "BertNormalizer", "clean_text": true,
          "handle_chinese_chars": settings["tokenize_chinese_chars"] ?? true,
          "strip_accents": settings["strip_accents"] ?? .null, "lowercase": settings["do_lower_case"] ?? true,
        ]
        return [
          "normalizer": normalizer, "pre_tokenizer": ["type": "BertPreTokenizer"],
          "decoder": ["type": "WordPiece", "prefix": "##", "cleanup": true],
          "post_processor": ["type": "BertProcessing", "sep": special("sep_token"), "cls": special("cls_token")],
        ]
      })
  ]

  private static func byteLevel(_ settings: JSONValue, splits: Bool = true) -> JSONValue {
    ["type": "ByteLevel", "add_prefix_space": settings["add_prefix_space"] ?? false, "use_regex": .bool(splits)]
  }

  /// Reads the tokenizer of a folder; nil when it has no such files.
  /// - Throws: `FileError`, `JSONError` or `TokenizerError` for files that are not understood, or of a class that is not known.
  static func load(folder: String) throws -> (any Tokenizer)? {
    func has(_ name: String) -> Bool { PathQuery.status(PathQuery.join(folder, name)) != nil }
    let isPair = has("vocab.json") && has("merges.txt")
    guard isPair || has("vocab.txt") else { return nil }
    let place = PathQuery.join(folder, isPair ? "vocab.json" : "vocab.txt")
    let settings = try document("tokenizer_config.json", in: folder)
    let kind = try kind(isPair ? bytePairs : words, settings, folder)
    let model = try isPair ? bytePairs(in: folder) : wordPieces(place, settings)
    var added = try AddedVocabulary(model.vocabulary, settings, folder: folder)
    for name in specialNames {
      let given = [settings[name], try document("special_tokens_map.json", in: folder)[name]].compactMap { $0 }.first
      guard let token = given ?? kind.specialTokens[name].map({ .string($0) }), token != .null else { continue }
      try added.addSpecial(name, token)
    }
    for token in settings["additional_special_tokens"]?.arrayValue ?? [] { try added.addSpecial("", token) }
    var members = kind.parts(settings) { added.pair($0) }
    members["added_tokens"] = .array(added.tokens)
    let head = try JSONValue.object(members).text().dropLast()
    let bytes = Array(head.utf8) + Array(",\"model\":".utf8) + model.json + [UInt8(ascii: "}")]
    return try bytes.withUnsafeBytes { try TokenizerJSON.load($0, path: place, specialTokens: kind.specialTokens) }
  }

  /// In the order that new ones get their ids in.
  private static let specialNames = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  private static func document(_ name: String, in folder: String) throws -> JSONValue {
    let path = PathQuery.join(folder, name)
    return PathQuery.status(path) == nil ? .null : try StrictJSON.readForeign(path)
  }

  private static func kind(_ kinds: [Kind], _ settings: JSONValue, _ folder: String) throws -> Kind {
    if var name = settings["tokenizer_class"]?.stringValue {
      if name.hasSuffix("Fast") { name.removeLast(4) }
      if let kind = kinds.first(where: { $0.classes.contains(name) }) { return kind }
      throw TokenizerError(
        PathQuery.join(folder, "tokenizer_config.json"),
        "a tokenizer of class '\(name)' in separate files is not known",
        advice: StrictJSON.unknown(name, among: kinds.flatMap(\.classes))
          + "; a tokenizer.json says all that is needed")
    }
    let model = try document("config.json", in: folder)["model_type"]?.stringValue
    return kinds.first { kind in model.map { kind.modelTypes.contains($0) } ?? false } ?? kinds[0]
  }

  // MARK: Models

  /// A "model" of a tokenizer.json, and its vocabulary.
  private typealias Model = (json: [UInt8], vocabulary: Vocabulary)

  private static func bytePairs(in folder: String) throws -> Model {
    let place = PathQuery.join(folder, "vocab.json")
    let (file, merges) = (try FileMapping(place), try FileMapping(PathQuery.join(folder, "merges.txt")))
    return try withExtendedLifetime((file, merges)) {
      var vocabulary = Vocabulary()
      var reader = JSONReader(file.bytes, place: place)
      try reader.object { reader, token in try vocabulary.insert(token, id: reader.integer(), in: place) }
      try reader.end()
      var json = Array("{\"type\":\"BPE\",\"vocab\":".utf8) + Array(file.bytes) + Array(",\"merges\":[".utf8)
      var isFirst = true
      for line in try lines(merges) where !line.isEmpty && !line.hasPrefix("#version") {
        json += Array((isFirst ? "" : ",").utf8) + Array(try JSONValue.string(line).text().utf8)
        isFirst = false
      }
      return (json + Array("]}".utf8), vocabulary)
    }
  }

  private static func wordPieces(_ place: String, _ settings: JSONValue) throws -> Model {
    let file = try FileMapping(place)
    return try withExtendedLifetime(file) {
      var vocabulary = Vocabulary()
      var tokens: [String] = []
      for (id, line) in try lines(file).enumerated() {
        try Array(line.utf8).withUnsafeBytes { try vocabulary.insert($0, id: id, in: place) }
        tokens.append(try JSONValue.string(line).text() + ":\(id)")
      }
      let unknown = AddedVocabulary.text(settings["unk_token"]) ?? "[UNK]"
      let head = "{\"type\":\"WordPiece\",\"unk_token\":\(try JSONValue.string(unknown).text()),\"vocab\":{"
      return (Array((head + tokens.joined(separator: ",") + "}}").utf8), vocabulary)
    }
  }

  /// The lines of a file of tokens; what ends them is no part of them, and nothing follows the last end.
  private static func lines(_ file: FileMapping) throws -> [String] {
    guard let text = String(validating: file.bytes, as: UTF8.self) else {
      throw TokenizerError(file.path, "it is not valid UTF-8", advice: "the file is damaged")
    }
    // By scalar: as a character, CR LF is one.
    var lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      String(line.last == "\r" ? line.dropLast() : line)
    }
    if lines.last == "" { lines.removeLast() }
    return lines
  }
}

/// The added tokens of a tokenizer in separate files: those that the files list, then the special ones. Those that the
/// vocabulary lacks get the next ids in that order, as in `transformers`, whatever ids the files give them.
private struct AddedVocabulary {
  /// As a tokenizer.json has them.
  private(set) var tokens: [JSONValue] = []
  private let vocabulary: Vocabulary
  private var ids: [String: Int] = [:]
  private var names: [String: String] = [:]
  private var next: Int

  init(_ vocabulary: Vocabulary, _ settings: JSONValue, folder: String) throws {
    self.vocabulary = vocabulary
    next = vocabulary.count
    let older = PathQuery.join(folder, "added_tokens.json")
    if let listed = settings["added_tokens_decoder"]?.objectValue {
      let byID = listed.map { (id: Int($0.key), token: $0.value) }
      for (id, token) in byID.sorted(by: { $0.id ?? 0 < $1.id ?? 0 }) {
        guard id != nil, let text = Self.text(token) else {
          throw TokenizerError(folder, "added_tokens_decoder holds something that is no token with its id")
        }
        add(text, flags: token)
      }
    } else if PathQuery.status(older) != nil {
      let byText = try StrictJSON.read(older).objectValue ?? [:]
      let sorted = byText.sorted { ($0.value.intValue ?? 0, $0.key) < ($1.value.intValue ?? 0, $1.key) }
      for (text, _) in sorted { add(text, flags: .null) }
    }
  }

  /// The text of a token that is one, or an object that holds one.
  static func text(_ value: JSONValue?) -> String? { value?.stringValue ?? value?["content"]?.stringValue }

  /// A token that stands for itself wherever special tokens are read.
  mutating func addSpecial(_ name: String, _ token: JSONValue) throws {
    guard let text = Self.text(token) else {
      throw TokenizerError("tokenizer_config.json", "\(name) is no token, but \(token.kind)")
    }
    names[name] = text
    if ids[text] == nil { add(text, flags: token, isSpecial: true) }
  }

  private mutating func add(_ text: String, flags: JSONValue, isSpecial: Bool = false) {
    func flag(_ key: String) -> Bool? { flags[key]?.boolValue }
    let special = isSpecial || flag("special") ?? false
    let known = vocabulary.id(Array(text.utf8))
    let id = known ?? next
    if known == nil { next += 1 }
    ids[text] = id
    tokens.append([
      "id": .int(id), "content": .string(text), "special": .bool(special), "lstrip": .bool(flag("lstrip") ?? false),
      "rstrip": .bool(flag("rstrip") ?? false), "single_word": .bool(flag("single_word") ?? false),
      "normalized": .bool(flag("normalized") ?? !special),
    ])
  }

  /// A special token and its id, as post-processors want them.
  func pair(_ name: String) -> JSONValue {
    let text = names[name] ?? ""
    return [.string(text), .int(ids[text] ?? -1)]
  }
}
