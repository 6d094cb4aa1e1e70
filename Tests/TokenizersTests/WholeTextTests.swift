import FermataFiles
import Foundation
import Testing

@testable import FermataTokenizers

/// Long texts, streams, and what files beside a tokenizer add.
@Suite struct WholeTextTests {
  private func load(_ name: String, _ folder: TokenizerFolder) throws -> any Tokenizer {
    try #require(GoldenTokenizers.shared).named(name).load(in: folder)
  }

  /// Seconds that this thread has run: other work on the machine does not count.
  static func threadSeconds() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) * 1e-9
  }

  @Test(arguments: ["gpt2.json", "gpt4o.json", "llama2.json", "t5.json", "bert.json", "unigram.model", "bpe.model"])
  func timeIsLinear(_ name: String) throws {
    let tokenizer = try load(name, TokenizerFolder())
    #if DEBUG
      let size = 20_000
    #else
      let size = 60_000
    #endif
    // One word, one space after another, one letter, one script without spaces, marks upon marks, signs, invalid bytes.
    for unit in ["ab", " ", "a", "中", "e\u{301}", "\u{301}", "!?", "\n ", "A"].map({ Array($0.utf8) }) + [
      [0xFF], [0xE4, 0xB8],
    ] {
      let text = [UInt8]((0..<size / unit.count).map { _ in unit }.joined())
      func time(_ text: [UInt8]) throws -> Double {
        let start = Self.threadSeconds()
        let ids = try tokenizer.encode(text, addingSpecialTokens: false, parsingSpecialTokens: true)
        let taken = Self.threadSeconds() - start
        #expect(ids.allSatisfy { (0..<tokenizer.vocabularySize).contains($0) })
        return taken
      }
      // Quadratic time would be a hundredfold here.
      let small = try time(Array(text.prefix(size / 10)))
      #expect(try time(text) < max(small, 0.002) * 60, "\(unit)")
    }
  }

  @Test func aHeapMergesAsASearchDoes() {
    // Pairs with orders by a rule that makes chains and ties.
    func find(_ left: Int32, _ right: Int32) -> (order: UInt32, merged: Int32)? {
      (left &* 7 &+ right &* 13) % 5 == 0 ? nil : (UInt32((left &* 31 &+ right &* 17) & 15), (left &+ right &* 3) & 63)
    }
    var state: UInt64 = 9
    for count in [2, 3, 31, 32, 33, 34, 100, 257] {
      for _ in 0..<20 {
        let symbols = (0..<count).map { _ -> Int32 in
          state = state &* 6_364_136_223_846_793_005 &+ 1
          return Int32(state >> 58)
        }
        var slow = symbols
        while let best = (0..<slow.count - 1).compactMap({ i in
          find(slow[i], slow[i + 1]).map { ($0.order, i, $0.merged) }
        })
        .min(by: { ($0.0, $0.1) < ($1.0, $1.1) }) {
          slow[best.1] = best.2
          slow.remove(at: best.1 + 1)
          if slow.count < 2 { break }
        }
        var scratch = MergeScratch()
        scratch.symbols = symbols
        scratch.merge(find)
        #expect(scratch.symbols == slow)
      }
    }
  }

  /// Which of two ways of equal sums rounds higher depends on the user-defined piece before: the ids are those of `sentencepiece`
  /// 0.2.3.
  @Test func userDefinedPiecesScoreAsInSentencePiece() throws {
    let tokenizer = try load("unigram.model", TokenizerFolder())
    let text = "!      ¥<extra>①ıß.…\u{344}\u{90}'S\u{FEFF}-—</s>ing"
    #expect(
      try tokenizer.encode(text) == [
        6, 50, 6, 286, 4, 38, 0, 337, 16, 148, 0, 10, 54, 238, 96, 232, 371, 7, 110, 5,
      ])
  }

  @Test(arguments: [
    "gpt2.json", "llama2.json", "bert.json", "suffix.json", "t5.json", "strip_each.json", "unigram.model",
  ])
  func streamsAreTheWholeAndNeverHalfACharacter(_ name: String) throws {
    let goldens = try #require(GoldenTokenizers.shared)
    let tokenizer = try load(name, TokenizerFolder())
    for text in goldens.texts(100) {
      let ids = try tokenizer.encode(text, addingSpecialTokens: false, parsingSpecialTokens: true)
      var decoder = tokenizer.makeStreamDecoder(skippingSpecialTokens: true)
      var streamed: [UInt8] = []
      for id in ids {
        let piece = try decoder.push(id)
        #expect(String(validating: piece, as: UTF8.self) != nil)
        streamed += piece
      }
      streamed += try decoder.finish()
      let whole = try tokenizer.decode(ids, skippingSpecialTokens: true)
      #expect(String(decoding: streamed, as: UTF8.self) == String(decoding: whole, as: UTF8.self))
    }
  }

  @Test func textThatIsNoUTF8ComesBackByteForByte() throws {
    for name in ["gpt2.json", "llama2.json"] {
      let tokenizer = try load(name, TokenizerFolder())
      let text = [UInt8](0...255) + [0xE4, 0xB8] + Array("é".utf8) + [0xC3]
      let ids = try tokenizer.encode(text, addingSpecialTokens: false, parsingSpecialTokens: false)
      #expect(try tokenizer.decode(ids, skippingSpecialTokens: true) == text)
    }
  }

  @Test func specialTokensInTextAreTextUnlessAskedFor() throws {
    let tokenizer = try load("gpt2.json", TokenizerFolder())
    let text = Array("a<|endoftext|>".utf8)
    let end = try #require(tokenizer.id(of: "<|endoftext|>"))
    let parsed = try tokenizer.encode(text, addingSpecialTokens: false, parsingSpecialTokens: true)
    #expect(parsed.count == 2 && parsed.last == end)
    #expect(try !tokenizer.encode("a<|endoftext|>").contains(end))
    #expect(tokenizer.token(end) == "<|endoftext|>")
    for id in [-1, tokenizer.vocabularySize, .max] {
      #expect(throws: TokenizerError.self) { try tokenizer.decode([id], skippingSpecialTokens: false) }
    }
  }

  @Test func filesBesideNameBeginAndEnd() throws {
    let folder = try TokenizerFolder()
    let golden = try #require(GoldenTokenizers.shared).named("llama2_unknowns.json")
    try folder.write(golden.file, to: "tokenizer.json")
    try folder.write(
      Array(#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": true}"#.utf8),
      to: "tokenizer_config.json")
    try folder.write(Array(#"{"eos_token_id": [601, 7]}"#.utf8), to: "generation_config.json")
    let tokenizer = try TokenizerFiles.load(folder.path)
    #expect(tokenizer.beginToken == 600 && tokenizer.endTokens == [601, 7])
    #expect(try tokenizer.encode([], addingSpecialTokens: true, parsingSpecialTokens: false) == [600])
  }
}
