import FermataFiles
import FermataTokenizers
import Foundation
import Testing

@Suite struct PlainTokenizerTests {
  @Test func bytesAreTheirOwnIDs() throws {
    let tokenizer = try TokenizerFiles.load("bytes")
    let text = [UInt8](0...255)
    let ids = try tokenizer.encode(text, addingSpecialTokens: true, parsingSpecialTokens: false)
    #expect(ids == [256] + (0...255))
    #expect(try tokenizer.decode(ids, skippingSpecialTokens: true) == text)
    #expect(tokenizer.vocabularySize == 257 && tokenizer.beginToken == 256)
    for id in 0..<257 {
      let token = try #require(tokenizer.token(id))
      #expect(tokenizer.id(of: token) == id)
    }
    for id in [-1, 257, .max, .min] {
      #expect(throws: TokenizerError.self) { try tokenizer.decode([id], skippingSpecialTokens: false) }
    }
  }

  @Test func lettersOfDNAHaveTheIDsOfHyenaDNA() throws {
    let tokenizer = try TokenizerFiles.load("dna")
    let ids = try tokenizer.encode(Array("ACGTNxa".utf8), addingSpecialTokens: true, parsingSpecialTokens: false)
    #expect(ids == [7, 8, 9, 10, 11, 6, 6, 1])
    #expect(try tokenizer.decode(ids, skippingSpecialTokens: true) == Array("ACGTN".utf8))
    #expect(try tokenizer.decode([1], skippingSpecialTokens: false) == Array("[SEP]".utf8))
    #expect(tokenizer.id(of: "T") == 10 && tokenizer.token(6) == "[UNK]" && tokenizer.token(12) == nil)
  }

  @Test func streamsGiveWholeCharacters() throws {
    var decoder = ByteTokenizer().makeStreamDecoder(skippingSpecialTokens: true)
    var pieces: [[UInt8]] = []
    for byte in "é😀x".utf8 { pieces.append(try decoder.push(Int(byte))) }
    #expect(pieces == [[], Array("é".utf8), [], [], [], Array("😀".utf8), Array("x".utf8)])
    #expect(try decoder.push(0xF0) == [])
    #expect(try decoder.finish() == Array("\u{FFFD}".utf8))
  }

  @Test func pathsThatNameNoTokenizer() {
    #expect(throws: FileError.self) { try TokenizerFiles.load("/nowhere/at-all") }
    #expect(throws: TokenizerError.self) { try TokenizerFiles.load("/proc/self/status") }
    #expect(throws: FileError.self) { try TokenizerFiles.load("/proc/self/fdinfo") }
  }
}
