import FermataFiles
import FermataTokenizers
import Foundation
import Testing

/// The public cases of GGUF vocabularies, where they lie beside the checkout; and small vocabularies of every kind.
@Suite struct GGUFTokenizerTests {
  private static let shared: String = {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    return root.path + "/shared/data/tokenizers/"
  }()

  static let vocabularies: [String] = ((try? FileManager.default.contentsOfDirectory(atPath: shared)) ?? [])
    .filter { $0.hasSuffix(".gguf") }.sorted()

  @Test(.enabled(if: !vocabularies.isEmpty, "the public vocabularies are not here"), arguments: vocabularies)
  func publicCases(_ name: String) throws {
    let tokenizer = try TokenizerFiles.load(Self.shared + name)
    let input = try String(contentsOfFile: Self.shared + name + ".inp", encoding: .utf8)
    let output = try String(contentsOfFile: Self.shared + name + ".out", encoding: .utf8)
    let wanted = output.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      line.split(separator: " ").compactMap { Int($0) }
    }
    let texts = input.components(separatedBy: "\n__ggml_vocab_test__\n").prefix(wanted.count)
    #expect(texts.count > 40)
    for (text, ids) in zip(texts, wanted) {
      #expect(try tokenizer.encode(text) == ids, "\(text.debugDescription)")
      if name != "bert-bge.gguf" {
        #expect(try tokenizer.decode(ids, skippingSpecialTokens: true) == Array(text.utf8))
      }
    }
  }

  /// A file with these tokens, of kinds with the numbers of the format.
  private func tokenizer(
    _ model: String, _ tokens: [(String, Int32)], scores: [Float] = [], merges: [String] = [],
    texts: [String: String] = [:], numbers: [String: UInt32] = [:]
  ) throws -> any Tokenizer {
    let count = 3 + (scores.isEmpty ? 0 : 1) + (merges.isEmpty ? 0 : 1) + texts.count + numbers.count
    var file = GGUFBytes(entries: UInt64(count))
    file.entry("tokenizer.ggml.model", text: model)
    file.entry("tokenizer.ggml.tokens", texts: tokens.map(\.0))
    file.entry("tokenizer.ggml.token_type", numbers: tokens.map { UInt32(bitPattern: $0.1) }, type: 5)
    if !scores.isEmpty { file.entry("tokenizer.ggml.scores", numbers: scores.map(\.bitPattern), type: 6) }
    if !merges.isEmpty { file.entry("tokenizer.ggml.merges", texts: merges) }
    for (key, value) in texts { file.entry("tokenizer.ggml." + key, text: value) }
    for (key, value) in numbers { file.entry("tokenizer.ggml." + key, number: value) }
    let folder = try TokenizerFolder()
    try folder.write(file.bytes, to: "v.gguf")
    return try TokenizerFiles.load(folder.path)
  }

  @Test func bytePairsOfAKind() throws {
    let tokenizer = try tokenizer(
      "gpt2", [("a", 1), ("b", 1), ("Ġ", 1), ("ab", 1), ("Ġab", 1), ("<|end|>", 3), ("<user>", 4)],
      merges: ["a b", "Ġ ab", "x y"], texts: ["pre": "llama-bpe"],
      numbers: ["bos_token_id": 5, "eos_token_id": 5])
    #expect(try tokenizer.encode("ab ab<user>b<|end|>") == [3, 4, 6, 1])
    let ids = try tokenizer.encode(Array("ab<|end|>".utf8), addingSpecialTokens: true, parsingSpecialTokens: true)
    #expect(ids == [5, 3, 5])
    #expect(try tokenizer.decode(ids, skippingSpecialTokens: true) == Array("ab".utf8))
    #expect(try tokenizer.decode(ids, skippingSpecialTokens: false) == Array("<|end|>ab<|end|>".utf8))
    #expect(tokenizer.endTokens == [5] && tokenizer.beginToken == 5 && !tokenizer.parsesSpecialTokensByDefault)
  }

  @Test func kindsAndModelsNobodyKnows() throws {
    let tokens: [(String, Int32)] = [("a", 1), ("b", 1)]
    let kind = #expect(throws: TokenizerError.self) {
      try tokenizer("gpt2", tokens, merges: ["a b"], texts: ["pre": "llama-bep"])
    }
    #expect(kind?.description.contains("did you mean 'llama-bpe'?") == true)
    #expect(throws: TokenizerError.self) { try tokenizer("plamo2", tokens) }
    #expect(throws: FileError.self) { try tokenizer("gpt2", tokens) }
    #expect(throws: TokenizerError.self) { try tokenizer("llama", tokens, scores: [1]) }
  }

  @Test func piecesWithScores() throws {
    let bytes = (0..<256).map { (String(format: "<0x%02X>", $0), Int32(6)) }
    let tokens = [("<unk>", Int32(2)), ("<s>", 3), ("</s>", 3)] + bytes + [("▁", 1), ("a", 1), ("▁a", 1), ("aa", 1)]
    let scores = [Float](repeating: 0, count: 260) + [-3, -2, -1]
    let tokenizer = try tokenizer("llama", tokens, scores: scores)
    #expect(try tokenizer.encode("aaa é") == [259, 262, 260, 259, 3 + 0xC3, 3 + 0xA9])
    #expect(
      try tokenizer.decode([259, 262, 260, 259, 3 + 0xC3, 3 + 0xA9], skippingSpecialTokens: true) == Array("aaa é".utf8)
    )
    #expect(try tokenizer.encode([0xFF], addingSpecialTokens: true, parsingSpecialTokens: false) == [1, 259, 3 + 0xFF])
  }

  @Test func wordsOfBERT() throws {
    let tokenizer = try tokenizer(
      "bert", [("[PAD]", 3), ("[UNK]", 2), ("[CLS]", 3), ("[SEP]", 3), ("▁he", 1), ("llo", 1), ("▁!", 1)],
      numbers: ["unknown_token_id": 1, "cls_token_id": 2, "seperator_token_id": 3])
    let ids = try tokenizer.encode(Array("HÉLLO! x".utf8), addingSpecialTokens: true, parsingSpecialTokens: false)
    #expect(ids == [2, 4, 5, 6, 1, 3])
  }

  @Test func unigramAndLongestMatches() throws {
    let unigram = try tokenizer(
      "t5", [("<pad>", 3), ("</s>", 3), ("<unk>", 2), ("▁a", 1), ("a", 1), ("▁", 1), ("aa", 1)],
      scores: [0, 0, 0, -1, -2, -3, -2.5], numbers: ["eos_token_id": 1, "unknown_token_id": 2])
    #expect(try unigram.encode(Array("aaa xx".utf8), addingSpecialTokens: true, parsingSpecialTokens: false).last == 1)
    let rwkv = try tokenizer("rwkv", [("\\x00", 1), ("a", 1), ("aa", 1), ("\\n", 1), ("\\xff", 1)])
    #expect(
      try rwkv.encode([97, 97, 97, 10, 255, 0], addingSpecialTokens: true, parsingSpecialTokens: false) == [
        2, 1, 3, 4, 0,
      ])
  }
}

/// Writes the head of a GGUF file.
private struct GGUFBytes {
  private(set) var bytes = Array("GGUF".utf8)

  init(entries: UInt64) {
    add(UInt32(3))
    add(UInt64(0))
    add(entries)
  }

  private mutating func add(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
  }

  private mutating func add(text: String) {
    add(UInt64(text.utf8.count))
    bytes += Array(text.utf8)
  }

  mutating func entry(_ key: String, text: String) {
    add(text: key)
    add(UInt32(8))
    add(text: text)
  }

  mutating func entry(_ key: String, number: UInt32) {
    add(text: key)
    add(UInt32(4))
    add(number)
  }

  mutating func entry(_ key: String, texts: [String]) {
    add(text: key)
    add(UInt32(9))
    add(UInt32(8))
    add(UInt64(texts.count))
    for text in texts { add(text: text) }
  }

  mutating func entry(_ key: String, numbers: [UInt32], type: UInt32) {
    add(text: key)
    add(UInt32(9))
    add(type)
    add(UInt64(numbers.count))
    for number in numbers { add(number) }
  }
}
