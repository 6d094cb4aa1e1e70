import Foundation
import Testing

@testable import FermataFiles

/// Writes GGUF files as the tests need them, sound or not.
struct GGUFWriter {
  private(set) var bytes: [UInt8] = []

  init(version: UInt32 = 3, tensors: UInt64 = 0, entries: UInt64) {
    bytes = Array("GGUF".utf8)
    number(version)
    number(tensors)
    number(entries)
  }

  mutating func number(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
  }

  mutating func text(_ text: String) {
    number(UInt64(text.utf8.count))
    bytes += Array(text.utf8)
  }

  mutating func entry(_ key: String, _ type: GGUFFile.ElementType) {
    text(key)
    number(type.rawValue)
  }

  mutating func entry(_ key: String, text value: String) {
    entry(key, .text)
    text(value)
  }

  mutating func entry(_ key: String, texts: [String]) {
    entry(key, .list)
    number(GGUFFile.ElementType.text.rawValue)
    number(UInt64(texts.count))
    for value in texts { text(value) }
  }
}

@Suite struct GGUFTests {
  private func sample() -> [UInt8] {
    var writer = GGUFWriter(tensors: 1, entries: 6)
    writer.entry("general.architecture", text: "llama")
    writer.entry("a.count", .uint32)
    writer.number(UInt32(7))
    writer.entry("a.signed", .int64)
    writer.number(Int64(-5))
    writer.entry("a.real", .float32)
    writer.number(Float(1.5).bitPattern)
    writer.entry("a.flag", .bool)
    writer.number(UInt8(1))
    writer.entry("a.texts", texts: ["one", "", "drei"])
    writer.text("weight")
    writer.number(UInt32(2))
    writer.number(UInt64(3))
    writer.number(UInt64(2))
    writer.number(UInt32(0))
    writer.number(UInt64(0))
    return writer.bytes + [UInt8](repeating: 0, count: 96)
  }

  private func read(_ bytes: [UInt8], _ folder: TemporaryFolder) throws -> GGUFFile {
    let path = folder.file("file.gguf")
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    return try GGUFFile(path)
  }

  @Test func readsEveryKind() throws {
    let folder = try TemporaryFolder()
    let file = try read(sample(), folder)
    #expect(file.text("general.architecture") == "llama" && file.integer("a.count") == 7)
    #expect(file.integer("a.signed") == -5 && file.bool("a.flag") == true && file.integer("a.texts") == nil)
    var texts: [String] = []
    try file.forEachText("a.texts") { bytes, index in
      #expect(index == texts.count)
      texts.append(String(decoding: bytes, as: UTF8.self))
    }
    #expect(texts == ["one", "", "drei"])
    #expect(file.tensors.map(\.name) == ["weight"] && file.tensors[0].dimensions == [3, 2])
    #expect(file.dataStart % 32 == 0 && GGUFFile.matches(folder.file("file.gguf")))
    #expect(throws: FileError.self) { try file.numbers("a.texts") }
  }

  @Test func everyTruncationIsAnError() throws {
    let folder = try TemporaryFolder()
    let whole = sample()
    let head = whole.count - 96
    for size in 0..<head { #expect(throws: FileError.self) { try read(Array(whole.prefix(size)), folder) } }
  }

  @Test func countsThatCannotBe() throws {
    let folder = try TemporaryFolder()
    for value in [UInt64.max, 1 << 40, 1 << 62] {
      #expect(throws: FileError.self) { try read(GGUFWriter(tensors: value, entries: 0).bytes, folder) }
      #expect(throws: FileError.self) { try read(GGUFWriter(entries: value).bytes, folder) }
      var writer = GGUFWriter(entries: 1)
      writer.entry("k", .list)
      writer.number(GGUFFile.ElementType.uint64.rawValue)
      writer.number(value)
      #expect(throws: FileError.self) { try read(writer.bytes, folder) }
      writer = GGUFWriter(entries: 1)
      writer.number(value)
      #expect(throws: FileError.self) { try read(writer.bytes, folder) }
    }
    #expect(throws: FileError.self) { try read(GGUFWriter(version: 1, entries: 0).bytes, folder) }
    #expect(throws: FileError.self) { try read(GGUFWriter(version: 0x0300_0000, entries: 0).bytes, folder) }
    var nested = GGUFWriter(entries: 1)
    nested.entry("k", .list)
    for _ in 0..<100 {
      nested.number(GGUFFile.ElementType.list.rawValue)
      nested.number(UInt64(1))
    }
    #expect(throws: FileError.self) { try read(nested.bytes, folder) }
  }

  @Test func mutatedFilesNeverTrap() throws {
    let folder = try TemporaryFolder()
    let whole = sample()
    var state: UInt64 = 1
    for _ in 0..<2000 {
      var bytes = whole
      for _ in 0..<3 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        bytes[Int(state >> 33) % (whole.count - 96)] = UInt8(truncatingIfNeeded: state >> 20)
      }
      _ = try? read(bytes, folder)
    }
  }
}

@Suite struct JSONReaderTests {
  private func reader(_ text: String, _ body: (inout JSONReader) throws -> Void) throws {
    try Array(text.utf8).withUnsafeBytes { bytes in
      var reader = JSONReader(bytes, place: "test")
      try body(&reader)
      try reader.end()
    }
  }

  @Test func readsMembersElementsAndValues() throws {
    var found: [String: JSONValue] = [:]
    var numbers: [Int] = []
    try reader(#" {"a" : [1, -2,3], "b":{"c":[{}, "]}\"", null]}, "d\u00e9":1.5e1, "e":true } "#) { reader in
      try reader.object { reader, key in
        let name = String(decoding: key, as: UTF8.self)
        if name == "a" {
          try reader.array { numbers.append(try $0.integer()) }
        } else {
          found[name] = try reader.value()
        }
      }
    }
    #expect(numbers == [1, -2, 3])
    #expect(found == ["b": ["c": [[:], "]}\"", nil]], "dé": 15.0, "e": true])
  }

  @Test(arguments: [
    "", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{\"a\":}", "{\"a\":]}", "{\"a\":[1,2}",
    "{a:1}",
    "{\"a\":\"b}", "{\"a\":\"\\", "{\"a\":tru}", "{\"a\":1}x", "[1]", "{\"\u{1}\":1}", "{\"a\":\"\\ud800\"}",
  ])
  func refuses(_ text: String) {
    #expect(throws: JSONError.self) {
      try reader(text) { try $0.object { reader, _ in _ = try reader.value() } }
    }
  }
}
