/// Small GGUF files, one for each kind of tokenizer, made here.
enum GGUFSeeds {
  static let all: [Seed] = [
    seed(
      "gpt2", ["a", "b", "c", "Ġ", "Ġa", "ab", "Ċ", "<|end|>"], kinds: [1, 1, 1, 1, 1, 1, 1, 3],
      further: [entry("tokenizer.ggml.pre", text: "llama-bpe"), entry("tokenizer.ggml.merges", texts: ["Ġ a", "a b"])]),
    seed(
      "gpt2", ["h", "e", "l", "o", "he", "<s>"], kinds: [1, 1, 1, 1, 1, 4],
      further: [entry("tokenizer.ggml.pre", text: "qwen2"), entry("tokenizer.ggml.merges", texts: ["h e"])]),
    seed(
      "llama", ["<unk>", "<s>", "</s>", "<0x0A>", "<0xC3>", "▁", "a", "▁a", "aa", "H", "el"],
      kinds: [2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1], scores: [0, 0, 0, 0, 0, -1, -2, -3, -4, -5, -6]),
    seed(
      "t5", ["<pad>", "</s>", "<unk>", "▁a", "a", "▁", "aa", "user"], kinds: [3, 3, 2, 1, 1, 1, 1, 4],
      scores: [0, 0, 0, -1, -2, -3, -2.5, 0],
      further: [
        entry("tokenizer.ggml.precompiled_charsmap", .uint8, count: 12) { [4, 0, 0, 0, 0, 1, 0, 0, 0x61, 0, 0x62, 0] }
      ]),
    seed("bert", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁he", "llo", "▁!"], kinds: [3, 2, 3, 3, 1, 1, 1]),
    seed("rwkv", ["\\x00", "a", "aa", "\\n", "\\xff", "H"], kinds: [1, 1, 1, 1, 1, 1]),
  ]

  private enum ElementType: UInt32 { case uint8 = 0, int32 = 5, float32 = 6, text = 8, list = 9, uint32 = 4, bool = 7 }

  private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
  private static func text(_ text: String) -> [UInt8] { bytes(UInt64(text.utf8.count)) + Array(text.utf8) }

  private static func entry(_ key: String, text value: String) -> [UInt8] {
    text(key) + bytes(ElementType.text.rawValue) + text(value)
  }

  private static func entry(_ key: String, _ type: ElementType, _ value: [UInt8]) -> [UInt8] {
    text(key) + bytes(type.rawValue) + value
  }

  private static func entry(_ key: String, _ type: ElementType, count: Int, _ elements: () -> [UInt8]) -> [UInt8] {
    text(key) + bytes(ElementType.list.rawValue) + bytes(type.rawValue) + bytes(UInt64(count)) + elements()
  }

  private static func entry(_ key: String, texts: [String]) -> [UInt8] {
    entry(key, .text, count: texts.count) { texts.flatMap { text($0) } }
  }

  private static func seed(
    _ model: String, _ tokens: [String], kinds: [Int32], scores: [Float] = [], further: [[UInt8]] = []
  ) -> Seed {
    var entries = [
      entry("general.architecture", text: "llama"), entry("tokenizer.ggml.model", text: model),
      entry("general.alignment", .uint32, bytes(UInt32(32))),
      entry("tokenizer.ggml.bos_token_id", .uint32, bytes(UInt32(1))),
      entry("tokenizer.ggml.eos_token_id", .uint32, bytes(UInt32(2))),
      entry("tokenizer.ggml.unknown_token_id", .uint32, bytes(UInt32(0))),
      entry("tokenizer.ggml.add_bos_token", .bool, [1]), entry("tokenizer.ggml.add_space_prefix", .bool, [0]),
      entry("tokenizer.ggml.tokens", texts: tokens),
      entry("tokenizer.ggml.token_type", .int32, count: kinds.count) { kinds.flatMap { bytes($0) } },
    ]
    if !scores.isEmpty {
      entries.append(
        entry("tokenizer.ggml.scores", .float32, count: scores.count) { scores.flatMap { bytes($0.bitPattern) } })
    }
    entries += further
    // The last part: one tensor of 2 × 3 numbers, and its data.
    let tensor =
      text("w") + bytes(UInt32(2)) + bytes(UInt64(3)) + bytes(UInt64(2)) + bytes(UInt32(0)) + bytes(UInt64(0))
    return Seed(entries + [tensor + [UInt8](repeating: 0, count: 64)]) { parts in
      Array("GGUF".utf8) + bytes(UInt32(3)) + bytes(UInt64(1)) + bytes(UInt64(max(0, parts.count - 1)))
        + parts.joined()
    }
  }
}
