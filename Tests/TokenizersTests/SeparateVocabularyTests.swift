import FermataFiles
import FermataTokenizers
import Foundation
import Testing

/// Tokenizers in separate files against `transformers` (Scripts/golden/make_separate_vocabularies.py).
@Suite struct SeparateVocabularyTests {
  private static let goldens = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Goldens").path

  private static let cases: [JSONValue] =
    (try? StrictJSON.read(goldens + "/separate_vocabularies.json")["cases"]?.arrayValue) ?? []

  /// Writes the vocabulary of a golden tokenizer in the files that came before tokenizer.json.
  private func write(_ name: String, in folder: TokenizerFolder) throws {
    let models = try StrictJSON.read(Self.goldens + "/tokenizers.json")["models"]
    let model = Array(try #require(models?[name]?.stringValue).utf8)
    var (lines, merges): ([[UInt8]], [[UInt8]]) = ([], [])
    try model.withUnsafeBytes { bytes in
      var reader = JSONReader(bytes, place: name)
      try reader.object { reader, key in
        switch String(decoding: key, as: UTF8.self) {
        case "vocab":
          var copy = reader
          let vocabulary = try Array(reader.rawValue())
          try folder.write(vocabulary, to: "vocab.json")
          try copy.object { reader, token in
            let bytes = Array(token)
            let id = try reader.integer()
            while lines.count <= id { lines.append([]) }
            lines[id] = bytes
          }
        case "merges":
          try reader.array { reader in
            var sides: [[UInt8]] = []
            try reader.array { try $0.string { sides.append(Array($1)) } }
            merges.append(Array(sides.joined(separator: [UInt8(ascii: " ")])))
          }
        default: _ = try reader.rawValue()
        }
      }
    }
    let end = UInt8(ascii: "\n")
    if merges.isEmpty {
      try FileManager.default.removeItem(atPath: folder.file("vocab.json"))
      try folder.write(lines.flatMap { $0 + [end] }, to: "vocab.txt")
    } else {
      try folder.write(Array("#version: 0.2\n".utf8) + merges.flatMap { $0 + [end] }, to: "merges.txt")
    }
  }

  @Test func casesAreThere() { #expect(Self.cases.count == 8) }

  @Test(arguments: cases.compactMap { $0["name"]?.stringValue })
  func agreesWithTransformers(_ name: String) throws {
    let golden = try #require(Self.cases.first { $0["name"]?.stringValue == name })
    let folder = try TokenizerFolder()
    try write(#require(golden["model"]?.stringValue), in: folder)
    if let settings = golden["configuration"], settings != [:] {
      try folder.write(Array(settings.text().utf8), to: "tokenizer_config.json")
    }
    for (name, content) in golden["others"]?.objectValue ?? [:] {
      try folder.write(Array(content.text().utf8), to: name)
    }
    let tokenizer = try TokenizerFiles.load(folder.path)
    let document = try StrictJSON.read(Self.goldens + "/separate_vocabularies.json")
    let texts = (document["texts"]?.arrayValue ?? []).compactMap(\.stringValue)
    func ids(_ key: String, _ index: Int) -> [Int]? {
      golden[key]?.arrayValue?[index].arrayValue?.compactMap(\.intValue)
    }
    for (index, text) in texts.enumerated() {
      let bytes = Array(text.utf8)
      let plain = try tokenizer.encode(bytes, addingSpecialTokens: false, parsingSpecialTokens: true)
      let whole = try tokenizer.encode(bytes, addingSpecialTokens: true, parsingSpecialTokens: true)
      #expect(plain == ids("ids", index), "\(text)")
      #expect(whole == ids("with_special", index), "\(text)")
      let decoded = String(decoding: try tokenizer.decode(whole, skippingSpecialTokens: false), as: UTF8.self)
      #expect(decoded == golden["decoded"]?.arrayValue?[index].stringValue, "\(text)")
    }
  }

  @Test(arguments: [
    ("tokenizer_config.json", #"{"tokenizer_class":"BrtTokenizer"}"#, "BartTokenizer"),
    ("tokenizer_config.json", #"{"tokenizer_class":"BartTokenizer","sep_token":null}"#, "which is not there"),
    ("tokenizer_config.json", #"{"tokenizer_class":"BartTokenizer","sep_token":5}"#, "sep_token"),
    ("tokenizer_config.json", #"{"added_tokens_decoder":{"x":"y"}}"#, "added_tokens_decoder"),
    ("merges.txt", "a b c\n", "two tokens"), ("merges.txt", "q zzz\n", "not in the vocabulary"),
    ("merges.txt", "\u{0}\n", "two tokens"), ("vocab.json", "{\"a\":", "number"), ("vocab.json", "[]", "object"),
  ])
  func whatIsWrongIsNamed(_ file: String, _ content: String, _ message: String) throws {
    let folder = try TokenizerFolder()
    try write("bytes", in: folder)
    try folder.write(Array(content.utf8), to: file)
    do {
      _ = try TokenizerFiles.load(folder.path)
      Issue.record("it was read")
    } catch {
      #expect(error is TokenizerError || error is JSONError, "\(error)")
      #expect("\(error)".contains(message), "\(error)")
    }
  }

  @Test func lineEndsOfOtherSystemsAreNoPartOfTokens() throws {
    let folder = try TokenizerFolder()
    try folder.write(Array("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\nhello\r\n##s\r\n".utf8), to: "vocab.txt")
    let tokenizer = try TokenizerFiles.load(folder.path)
    #expect(
      try tokenizer.encode(Array("Hellos x".utf8), addingSpecialTokens: true, parsingSpecialTokens: false) == [
        2, 5, 6, 1, 3,
      ])
    try folder.write([0x61, 0xFF, 0x0A], to: "vocab.txt")
    #expect(throws: TokenizerError.self) { try TokenizerFiles.load(folder.path) }
  }
}
