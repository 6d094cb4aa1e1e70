import FermataFiles
import FermataTokenizers
import Foundation
import Testing

/// Agreement with PyPI's `tokenizers` and `sentencepiece`: the first texts of 10,000, and all of them in the long tests.
@Suite struct TokenizerJSONTests {
  private static let blocks = ProcessInfo.processInfo.environment["FERMATA_LONG_TESTS"] == nil ? 1 : .max

  @Test(arguments: GoldenTokenizers.shared?.cases ?? [])
  func agreesWithItsMakers(_ golden: GoldenTokenizers.Case) throws {
    let goldens = try #require(GoldenTokenizers.shared)
    let tokenizer = try golden.load(in: TokenizerFolder())
    let parses = tokenizer.parsesSpecialTokensByDefault
    let texts = goldens.texts(goldens.block * min(Self.blocks, golden.digests.count))
    for (block, start) in stride(from: 0, to: texts.count, by: goldens.block).enumerated() {
      var digest = Digest()
      for text in texts[start..<start + goldens.block] {
        let plain = try tokenizer.encode(text, addingSpecialTokens: false, parsingSpecialTokens: parses)
        digest.add(plain)
        digest.add(try tokenizer.encode(text, addingSpecialTokens: true, parsingSpecialTokens: parses))
        let decoded = try tokenizer.decode(plain, skippingSpecialTokens: true)
        digest.add(String(decoding: decoded, as: UTF8.self).utf8)
      }
      #expect(digest.text == golden.digests[block], "block \(block)")
    }
  }

  @Test func goldensAreThere() throws { #expect(try !GoldenTokenizers().cases.isEmpty) }
}
