import FermataFiles
import FermataTokenizers
import Foundation
import Testing

/// Whatever is in a file, reading it ends in a tokenizer or a typed error.
@Suite struct HostileFileTests {
  private func isTyped(_ error: any Error) -> Bool {
    error is TokenizerError || error is JSONError || error is FileError
  }

  /// Loads a file and uses the tokenizer it gives.
  private func tryOut(_ bytes: [UInt8], _ name: String, _ folder: TokenizerFolder) throws {
    do {
      try folder.write(bytes, to: name)
      let tokenizer = try TokenizerFiles.load(folder.file(name))
      let text = Array("Hello wörld 123 <s> 😀".utf8) + [0xFF]
      let ids = try tokenizer.encode(text, addingSpecialTokens: true, parsingSpecialTokens: true)
      _ = try tokenizer.decode(ids, skippingSpecialTokens: false)
    } catch {
      #expect(isTyped(error), "\(error)")
    }
  }

  @Test(arguments: [
    "llama2.json", "bert.json", "t5.json", "gpt4o.json", "words.json", "unigram.model", "bpe.model",
  ])
  func mutatedAndTruncated(_ name: String) throws {
    let golden = try #require(GoldenTokenizers.shared).named(name)
    let folder = try TokenizerFolder()
    let rounds = ProcessInfo.processInfo.environment["FERMATA_LONG_TESTS"] == nil ? 40 : 4000
    var state: UInt64 = 2026
    func draw(_ limit: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % limit
    }
    for round in 0..<rounds {
      var bytes = golden.file
      if round % 4 == 0 { bytes.removeSubrange(draw(bytes.count)...) }
      for _ in 0..<draw(4) where !bytes.isEmpty {
        // Half of the changes hit the head, where the settings are.
        let place = draw(draw(2) == 0 ? min(bytes.count, 600) : bytes.count)
        let signs = Array("{}[]\",:\\0-9ets".utf8)
        bytes[place] = draw(2) == 0 ? signs[draw(signs.count)] : UInt8(draw(256))
      }
      try tryOut(bytes, name, folder)
    }
  }

  @Test(arguments: [
    ("{}", "no 'model'"), ("{\"model\":{}}", ""),
    ("{\"model\":{\"type\":\"BEP\",\"vocab\":{}}}", "did you mean 'BPE'?"),
    ("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", "not in the vocabulary"),
    ("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}}", "two tokens"),
    ("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1}}}", "-1"),
    ("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4000000000}}}", "4000000000"),
    ("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"unk_token\":\"b\"}}", "'b'"),
    ("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1}}", "unk_id"),
    ("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", "score"),
    (
      "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}},\"normalizer\":{\"type\":\"StripAccent\"}}",
      "did you mean 'StripAccents'?"
    ),
    ("{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}},\"pre_tokenizer\":{\"type\":\"Split\"}}", "behavior"),
    (
      "{\"model\":{\"vocab\":{\"a\":0}},\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"(\"}}}",
      "')'"
    ),
    ("{\"model\":{\"vocab\":{\"a\":0}},\"decoder\":{\"type\":\"Strip\",\"content\":\"ab\"}}", "one character"),
    ("{\"model\":{\"vocab\":{\"a\":0}},\"added_tokens\":[{\"content\":\"x\"}]}", "id"),
    (
      "{\"model\":{\"vocab\":{\"a\":0}},\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]}}",
      "lacks 'x'"
    ),
  ])
  func brokenFilesAreNamed(_ text: String, _ message: String) throws {
    let folder = try TokenizerFolder()
    try folder.write(Array(text.utf8), to: "tokenizer.json")
    do {
      _ = try TokenizerFiles.load(folder.path)
      #expect(message.isEmpty)
    } catch {
      #expect(isTyped(error) && "\(error)".contains(message), "\(error)")
    }
  }

  /// An expression that takes too long on a text ends in an error, before, between and behind.
  @Test(arguments: ["normalizer", "pre_tokenizer", "decoder"])
  func runawayExpressionsAreErrors(_ part: String) throws {
    let folder = try TokenizerFolder()
    let pattern = "\"pattern\":{\"Regex\":\"(a|aa)+$b\"}"
    let settings =
      part == "pre_tokenizer"
      ? "\"type\":\"Split\",\"behavior\":\"Isolated\"" : "\"type\":\"Replace\",\"content\":\"x\""
    let word = String(repeating: "a", count: 5000)
    let text = """
      {"model":{"type":"WordLevel","vocab":{"\(word)":0,"<unk>":1}},"\(part)":{\(settings),\(pattern)}}
      """
    try folder.write(Array(text.utf8), to: "tokenizer.json")
    let tokenizer = try TokenizerFiles.load(folder.path)
    #expect(throws: TokenizerError.self) {
      if part == "decoder" { return try tokenizer.decode([0], skippingSpecialTokens: true).count }
      return try tokenizer.encode(word).count
    }
  }

  @Test func partsInsidePartsWithoutEnd() throws {
    let folder = try TokenizerFolder()
    let depth = 500
    let open = String(repeating: "{\"type\":\"Sequence\",\"normalizers\":[", count: depth)
    let text = "{\"model\":{\"vocab\":{}},\"normalizer\":" + open + String(repeating: "]}", count: depth) + "}"
    try folder.write(Array(text.utf8), to: "tokenizer.json")
    #expect(throws: JSONError.self) { try TokenizerFiles.load(folder.path) }
  }
}
