/// How the byte-pair vocabularies of GGUF files cut text: the kinds that `tokenizer.ggml.pre` names in public files, with
/// the expressions of the models' own tokenizers. Each expression cuts what the ones before have left.
struct PreTokenizerKind: Sendable {
  var patterns: [String]
  /// A word that is a token is that token, whatever merges say.
  var ignoresMerges = false
  /// Whether a begin token is added when the file does not say.
  var addsBegin = false

  /// The kind with a name; nil for names nobody has published.
  static func named(_ name: String) -> PreTokenizerKind? { table[name] }

  static var names: [String] { Array(table.keys) }

  // MARK: Expressions

  private static let gpt2 = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"#
  private static let short = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
  private static let spaces = #"\s*[\r\n]+|\s+(?!\S)|\s+"#
  /// Words, numbers of so many digits, signs, spaces.
  private static func gpt4(digits: String, signs: String = #" ?[^\s\p{L}\p{N}]+[\r\n]*"#) -> String {
    short + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"# + digits + "|" + signs + "|" + spaces
  }
  /// Words that begin with capitals, or are nothing but capitals.
  private static func gpt4o(digits: String, short: String) -> String {
    #"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"# + short
      + #"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"# + short
      + #"|\p{N}"# + digits + #"| ?[^\s\p{L}\p{N}]+[\r\n/]*|"# + spaces
  }
  private static let deepseekWords =
    ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"##
    + spaces
  private static let chineseAndKana = "[一-龥\u{3040}-ゟ゠-ヿ]+"
  private static let chineseAndKorean = "[一-龥ࠀ-一가-\u{D7FF}]+"
  private static let bloom = #" ?[^(\s|.,!?…。，、।۔،)]+"#
  /// Groups of three digits, counted from the right.
  private static let groupedDigits = #"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"#
  private static let llama3 = gpt4(digits: "{1,3}")
  static let qwen2 = gpt4(digits: "")
  private static let qwen35 =
    short + #"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"# + spaces
  /// DeepSeek's first models list the letters that have case, as Unicode had them then.
  private static let casedLetters =
    #"\s?["#
    + #"A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF}"#
    + #"\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}"#
    + #"\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}"#
    + #"\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}"#
    + #"\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}"#
    + #"\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}"#
    + #"\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}"#
    + #"\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}"#
    + #"\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}"#
    + #"\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}"#
    + #"\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}"#
    + #"\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}"#
    + #"\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}"#
    + #"\x{1E900}-\x{1E943}"#
    + "]+"
  private static let wideSigns = #"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"#
  private static let kimi: String = {
    let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"#
    let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"#
    return #"\p{Han}+|[^\r\n\p{L}\p{N}]?"# + upper + "*" + lower + "+" + short + #"?|[^\r\n\p{L}\p{N}]?"# + upper + "+"
      + lower + "*" + short + #"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"# + spaces
  }()
  private static let halvedSpaces =
    [512, 256, 128, 64, 32, 16, 8, 4].map { #"\s{\#($0)}(?!\S)"# }.joined(separator: "|") + #"|\s{1,2}(?!\S)|\s{1}"#
  private static let exaone =
    short + #"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|"#
    + #"\s+(?!\S)|\s+"#
  private static let bailing =
    #"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"#
    + #"\s*[\r\n]|\s+(?!\S)|\s+"#
  private static let asianScripts =
    "[一-鿿㐀-䶿豈-\u{FAFF}\u{3040}-ゟ゠-ヿ･-ﾟ⼀-\u{2FDF}เ-\u{0E7F}\u{0E80}-\u{0EFF}ក-\u{17FF}က-႟ꩠ-ꩿꧠ-\u{A9FF}가-\u{D7AF}ᄀ-ᇿ]+"

  // MARK: Table

  private static let plain = PreTokenizerKind(patterns: [gpt2])
  private static let byDigit = PreTokenizerKind(patterns: [#"\p{N}"#, gpt2])
  private static let deepseek3 = PreTokenizerKind(patterns: [#"\p{N}{1,3}"#, chineseAndKana, deepseekWords])
  private static let ofGPT4O = gpt4o(digits: "{1,3}", short: short + "?")

  private static let families: [(names: [String], kind: PreTokenizerKind)] = [
    (
      ["default"],
      PreTokenizerKind(patterns: [#"[\p{P}\$\+<=>\^~\|]+"#, gpt2, #"\p{N}+"#, "[0-9][0-9][0-9]"])
    ),
    (
      [
        "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
      ], PreTokenizerKind(patterns: [llama3], ignoresMerges: true, addsBegin: true)
    ),
    (["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], PreTokenizerKind(patterns: [llama3])),
    (
      ["minicpm5"],
      PreTokenizerKind(patterns: [#"\p{N}{1,3}"#, gpt4(digits: "+")], ignoresMerges: true)
    ),
    (
      ["deepseek-llm"],
      PreTokenizerKind(patterns: [
        "[\r\n]", casedLetters, wideSigns, #"\s+$"#, chineseAndKorean, #"\p{N}+"#,
      ])
    ),
    (
      ["deepseek-coder"],
      PreTokenizerKind(patterns: ["[\r\n]", #"\s?\p{L}+"#, #"\s?\p{P}+"#, chineseAndKorean, #"\p{N}"#])
    ),
    (["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], deepseek3),
    (
      ["youtu"],
      PreTokenizerKind(
        patterns: [
          "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u{3040}-ゟ゠-ヿ]+",
          gpt4o(digits: "", short: short + "?"),
        ], ignoresMerges: true)
    ),
    (
      ["falcon"],
      PreTokenizerKind(patterns: [#"[\p{P}\$\+<=>\^~\|`]+"#, gpt2, "[0-9][0-9][0-9]"])
    ),
    (
      ["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"], byDigit
    ),
    (
      [
        "gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum",
        "modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe", "mpt", "olmo", "jais", "trillion",
        "granite-docling",
        "exaone4",
      ], plain
    ),
    (
      ["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "hunyuan", "solar-open", "megrez", "grok-2"],
      PreTokenizerKind(patterns: [qwen2])
    ),
    (["qwen35"], PreTokenizerKind(patterns: [qwen35])),
    (["laguna"], PreTokenizerKind(patterns: ["[^\n]+|[\n]+", qwen2])),
    (["poro-chat", "bloom", "gpt3-finnish"], PreTokenizerKind(patterns: [bloom])),
    (["viking"], PreTokenizerKind(patterns: [bloom, #"\p{N}"#])),
    (["tekken"], PreTokenizerKind(patterns: [gpt4o(digits: "", short: "")], ignoresMerges: true, addsBegin: true)),
    (["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], PreTokenizerKind(patterns: [ofGPT4O])),
    (["granite-embed-multi-97m"], PreTokenizerKind(patterns: [ofGPT4O], ignoresMerges: true)),
    (["tiny_aya", "cohere2moe"], PreTokenizerKind(patterns: [#"\d{1,3}(?=(?:\d{3})*\b)"#, ofGPT4O])),
    (["kimi-k2"], PreTokenizerKind(patterns: [kimi])),
    (["superbpe"], PreTokenizerKind(patterns: [#"\p{N}+"#, #"(?=(\d{3})+(?!\d))"#])),
    (["bailingmoe", "bailingmoe2", "llada-moe"], PreTokenizerKind(patterns: [bailing])),
    (
      ["seed-coder"],
      PreTokenizerKind(patterns: [gpt4(digits: "{1}", signs: #" ?[^\s\p{L}\p{N}\r\n]+"#)])
    ),
    (["afmoe"], PreTokenizerKind(patterns: [groupedDigits, asianScripts, deepseekWords])),
    (["exaone-moe"], PreTokenizerKind(patterns: [exaone])),
    (
      ["jais-2"],
      PreTokenizerKind(patterns: [
        short + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"# + halvedSpaces
      ])
    ),
    (
      ["chameleon"],
      PreTokenizerKind(
        patterns: [
          "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\t\n]|    |  )", #"\p{N}"#,
          #"[\p{P}!-/:-@\[-`{-~]"#, gpt2,
        ], addsBegin: true)
    ),
  ]

  private static let table: [String: PreTokenizerKind] = Dictionary(
    families.flatMap { family in family.names.map { ($0, family.kind) } }
  ) { first, _ in first }
}
