import Foundation
import Testing

@testable import FermataFiles

@Suite struct StrictJSONTests {
  private func parse(_ text: String) throws -> JSONValue { try StrictJSON.parse(Data(text.utf8), place: "config.json") }

  @Test func readsEveryKind() throws {
    let value = try parse(#" {"a":[1,-2.5,1e3,true,false,null,"\u00e9\ud83d\ude00\n\/"],"b":{},"c":[]} "#)
    #expect(value == ["a": [1, -2.5, 1000.0, true, false, nil, "é😀\n/"], "b": [:], "c": []])
    #expect(try parse("9223372036854775807") == .int(.max))
    #expect(try parse("9223372036854775808") == .double(9_223_372_036_854_775_808))
    #expect(value["a"]?.arrayValue?[0].doubleValue == 1)
  }

  @Test func writesWhatItReads() throws {
    let value: JSONValue = [
      "z": [0.1, 1.0, .double(.leastNonzeroMagnitude), 1.7976931348623157e308, .int(.min)],
      "a": ["k": "\u{1}\"\\\t\u{7F}é"], "e": [],
    ]
    for indented in [false, true] { #expect(try parse(value.text(indented: indented)) == value) }
    #expect(try JSONDecoder().decode(JSONValue.self, from: Data(value.text().utf8))["a"] == value["a"])
    #expect(try parse(String(decoding: JSONEncoder().encode(value), as: UTF8.self))["a"] == value["a"])
    #expect(throws: JSONError.self) { try JSONValue.double(.nan).text() }
  }

  @Test(arguments: [
    "", "{", "[1,]", "{\"a\":1,}", "{a:1}", "{'a':1}", "01", "1.", ".5", "+1", "1e", "nul", "truee", "[1 2]", "\"\\x\"",
    "\"\\u12g4\"", "\"\\ud800\"", "\"\\udc00\"", "\"a", "1e999", "[1]]", "NaN", "\u{FEFF}{}", "{\"a\":1,\"a\":2}", "//",
    "-",
  ])
  func refuses(_ text: String) {
    let error = #expect(throws: JSONError.self) { try parse(text) }
    #expect(error?.description.hasPrefix("config.json: ") == true)
  }

  @Test func errorsNameThePlace() {
    let error = #expect(throws: JSONError.self) { try parse("{\n  \"a\": 1,\n  \"a\": 2\n}") }
    #expect(error?.problem == "the key 'a' is there twice, at line 3, column 3")
  }

  @Test func unknownKeysAreNamedWithTheNearest() {
    let error = #expect(throws: JSONError.self) {
      try StrictJSON.checkKeys(object: ["head": 4, "width": 8], allowed: ["heads", "width"], where: "config.json")
    }
    #expect(error?.description == "config.json: unknown key 'head' (did you mean 'heads'?)")
    #expect(throws: Never.self) {
      try StrictJSON.checkKeys(object: ["width": 8], allowed: ["heads", "width"], where: "config.json")
    }
  }

  @Test func nearestNames() {
    let names = ["heads", "width", "learning-rate", "layers"]
    #expect(StrictJSON.nearest("Head", in: names) == "heads")
    #expect(StrictJSON.nearest("wdith", in: names) == "width")
    #expect(StrictJSON.nearest("learning_rate", in: names) == "learning-rate")
    #expect(StrictJSON.nearest("temperature", in: names) == nil)
    #expect(StrictJSON.nearest("", in: names) == nil)
    #expect(StrictJSON.distance(Array("kitten"), Array("sitting")) == 3)
    #expect(StrictJSON.distance(Array("ab"), Array("ba")) == 1)
  }

  struct Settings: Decodable, Equatable {
    struct Inner: Decodable, Equatable { var size: Int }
    var heads: Int
    var rate: Double
    var inner: [Inner]
  }

  @Test func decodes() throws {
    let allowed = ["heads", "rate", "inner"]
    let value = try parse(#"{"heads": 4, "rate": 1, "inner": [{"size": 2}]}"#)
    #expect(
      try StrictJSON.decode(Settings.self, from: value, allowed: allowed, where: "config.json")
        == Settings(heads: 4, rate: 1, inner: [.init(size: 2)]))
    let cases = [
      (#"{"heads": "4", "rate": 1, "inner": []}"#, "'heads' must be a whole number, not a text"),
      (#"{"rate": 1, "inner": []}"#, "'heads' is missing"),
      (
        #"{"heads": 4, "rate": 1, "inner": [{"size": true}]}"#,
        "'inner.0.size' must be a whole number, not true or false"
      ),
      (#"{"heads": 4, "rate": null, "inner": []}"#, "'rate'"),
      (#"{"heads": 4.5, "rate": 1, "inner": []}"#, "'heads'"),
      (#"{"headz": 4}"#, "did you mean 'heads'"),
      ("[]", "must be an object"),
    ]
    for (text, expected) in cases {
      let error = #expect(throws: JSONError.self) {
        try StrictJSON.decode(Settings.self, from: parse(text), allowed: allowed, where: "config.json")
      }
      #expect(error?.description.contains(expected) == true, "\(error?.description ?? "")")
    }
  }

  @Test func files() throws {
    let folder = try TemporaryFolder()
    try StrictJSON.write(["b": 1, "a": [true]], to: folder.file("c.json"))
    #expect(try folder.text("c.json") == "{\n  \"a\": [\n    true\n  ],\n  \"b\": 1\n}\n")
    #expect(try StrictJSON.read(folder.file("c.json")) == ["b": 1, "a": [true]])
  }
}

@Suite struct UTF8StreamTests {
  /// Bytes in which all sorts of good and bad sequences are frequent.
  private func sample(_ count: Int, seed: UInt64) -> [UInt8] {
    var state = seed
    let interesting: [UInt8] = [
      0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4,
      0xF5, 0xFF,
    ]
    return (0..<count).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return interesting[Int(state >> 33) % interesting.count]
    }
  }

  @Test(arguments: 0..<50)
  func equalsTheWhole(_ seed: Int) {
    let bytes = sample(200, seed: UInt64(seed))
    let whole = String(decoding: bytes, as: UTF8.self)
    for size in [1, 2, 3, 7, 200] {
      var stream = UTF8Stream()
      var output: [UInt8] = []
      for start in stride(from: 0, to: bytes.count, by: size) {
        let piece = stream.push(bytes[start..<min(start + size, bytes.count)])
        #expect(String(validating: piece, as: UTF8.self) != nil)
        output += piece
      }
      output += stream.finish()
      #expect(output == Array(whole.utf8))
    }
  }

  @Test func holdsBackHalfACharacter() {
    var stream = UTF8Stream()
    #expect(stream.push([0x61, 0xF0, 0x9F, 0x98]) == [0x61])
    #expect(stream.push([0x80]) == Array("😀".utf8))
    #expect(stream.push([0xC3]).isEmpty)
    #expect(stream.finish() == Array("\u{FFFD}".utf8))
    #expect(stream.finish().isEmpty)
  }
}
