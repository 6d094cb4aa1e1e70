import Foundation
import Testing

@testable import FermataFiles

@Suite struct SafetensorsTests {
  private func opened(header: String, data: Int, size: UInt64? = nil) throws -> SafetensorsFile {
    let folder = try TemporaryFolder()
    var bytes = withUnsafeBytes(of: (size ?? UInt64(header.utf8.count)).littleEndian) { Data($0) }
    bytes += Data(header.utf8)
    bytes += Data(repeating: 7, count: data)
    try bytes.write(to: URL(fileURLWithPath: folder.file("m")))
    return try SafetensorsFile(folder.file("m"))
  }

  private func tensor(_ begin: Int, _ end: Int, _ shape: String = "[2]", _ dtype: String = "F32") -> String {
    #"{"dtype":"\#(dtype)","shape":\#(shape),"data_offsets":[\#(begin),\#(end)]}"#
  }

  @Test func roundTrip() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("model.safetensors")
    let floats: [Float] = [1, -2, .infinity, 3.5, 0, 9]
    let tensors = [
      SafetensorsFile.Tensor(name: "bytes", type: .uint8, shape: [3], bytes: Data([1, 2, 3])),
      SafetensorsFile.Tensor(name: "weights", type: .float32, shape: [2, 3]) { write in
        try floats[..<2].withUnsafeBytes { try write($0) }
        try floats[2...].withUnsafeBytes { try write($0) }
      },
      SafetensorsFile.Tensor(name: "scalar é\n\"", type: .int64, shape: [], bytes: Data(repeating: 1, count: 8)),
      SafetensorsFile.Tensor(name: "none", type: .bfloat16, shape: [0, 5], bytes: Data()),
    ]
    try SafetensorsFile.write(tensors, metadata: ["format": "fermata"], to: path)
    let file = try SafetensorsFile(path)
    #expect(file.metadata == ["format": "fermata"])
    #expect(Set(file.entries.map(\.name)) == ["bytes", "weights", "scalar é\n\"", "none"])
    #expect(file.entries.allSatisfy { $0.range.lowerBound % $0.type.size == 0 })
    let entry = try file.require("weights", type: .float32, shape: [2, 3])
    #expect(file.withBytes(of: entry) { Array($0.bindMemory(to: Float.self)) } == floats)
    #expect(file.entry("scalar é\n\"")?.shape == [])
    #expect(throws: FileError.self) { try file.require("weights", type: .float16, shape: [2, 3]) }
    let error = #expect(throws: FileError.self) { try file.require("weight", type: .float32, shape: [2, 3]) }
    #expect(error?.advice.contains("'weights'") == true)
  }

  @Test func writerRefusesWhatDoesNotFit() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m")
    let good = SafetensorsFile.Tensor(name: "a", type: .uint8, shape: [1], bytes: Data([1]))
    let short = SafetensorsFile.Tensor(name: "b", type: .float32, shape: [2], bytes: Data([1]))
    let reserved = SafetensorsFile.Tensor(name: "__metadata__", type: .uint8, shape: [1], bytes: Data([1]))
    let huge = SafetensorsFile.Tensor(name: "c", type: .float32, shape: [.max, 2], bytes: Data())
    for tensors in [[good, good], [good, short], [reserved], [huge]] {
      #expect(throws: FileError.self) { try SafetensorsFile.write(tensors, to: path) }
    }
    #expect(try folder.names().isEmpty)
  }

  @Test func acceptsWhatTheFormatAllows() throws {
    let two = "{\"b\":\(tensor(8, 16)),\"a\":\(tensor(0, 8)),\"__metadata__\":{\"k\":\"v\"}}   "
    #expect(try opened(header: two, data: 16).entries.map(\.name) == ["a", "b"])
    #expect(try opened(header: "{}", data: 0).entries.isEmpty)
    #expect(try opened(header: "{\"a\":\(tensor(0, 4, "[]"))}", data: 4).entries[0].shape == [])
    let empty = "{\"z\":\(tensor(4, 4, "[0]")),\"y\":\(tensor(4, 4, "[3,0]")),\"a\":\(tensor(0, 4, "[1]"))}"
    #expect(try opened(header: empty, data: 4).entries.map(\.name) == ["a", "y", "z"])
  }

  @Test(arguments: [UInt64(100_000_001), .max, .max - 7, 1 << 63, 3, 0, 1])
  func hostileHeaderSizes(_ size: UInt64) {
    let error = #expect(throws: FileError.self) { try opened(header: "{}", data: 0, size: size) }
    #expect(error?.kind == .malformed)
  }

  @Test(arguments: [0, 1, 7, 8, 9])
  func shortFiles(_ size: Int) throws {
    let folder = try TemporaryFolder()
    try Data(repeating: 0, count: size).write(to: URL(fileURLWithPath: folder.file("m")))
    #expect(throws: FileError.self) { try SafetensorsFile(folder.file("m")) }
  }

  @Test func truncatedAtEveryLength() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m")
    let tensor = SafetensorsFile.Tensor(name: "a", shape: [3], floats: [1, 1, 1])
    try SafetensorsFile.write([tensor], metadata: ["a": "b"], to: path)
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    for size in 0..<whole.count {
      try whole.prefix(size).write(to: URL(fileURLWithPath: path))
      #expect(throws: FileError.self) { try SafetensorsFile(path) }
    }
    try (whole + [0]).write(to: URL(fileURLWithPath: path))
    #expect(throws: FileError.self) { try SafetensorsFile(path) }
  }

  @Test func everyFlippedByteIsReadOrRefusedButNeverTraps() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m")
    let tensor = SafetensorsFile.Tensor(name: "a", shape: [3], floats: [1, 1, 1])
    try SafetensorsFile.write([tensor], to: path)
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    for index in 0..<whole.count {
      for flip in [UInt8(1), 0x10, 0x80, 0xFF] {
        var changed = whole
        changed[index] ^= flip
        try changed.write(to: URL(fileURLWithPath: path))
        if let file = try? SafetensorsFile(path) {
          for entry in file.entries { #expect(file.bytes(of: entry).count == entry.range.count) }
        }
      }
    }
  }

  static let hostile: [(String, String)] = [
    ("not an object", "[]"), ("leading space", " {}"), ("trailing garbage", "{}x"), ("trailing comma", "{},"),
    (
      "duplicate names",
      #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#
    ),
    ("duplicate keys", #"{"a":{"dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#),
    (
      "escaped duplicates",
      #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"\u0061":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#
    ),
    (
      "overlap",
      #"{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#
    ),
    (
      "same range",
      #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#
    ),
    (
      "hole",
      #"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#
    ),
    ("late start", #"{"a":{"dtype":"U8","shape":[7],"data_offsets":[1,8]}}"#),
    ("early end", #"{"a":{"dtype":"U8","shape":[7],"data_offsets":[0,7]}}"#),
    ("past the file", #"{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}"#),
    ("huge offsets", #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[9223372036854775800,9223372036854775807]}}"#),
    ("offsets beyond 64 bits", #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,18446744073709551624]}}"#),
    ("reversed", #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}}"#),
    ("negative offset", #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[-8,0]}}"#),
    ("negative shape", #"{"a":{"dtype":"U8","shape":[-2,-4],"data_offsets":[0,8]}}"#),
    ("overflowing shape", #"{"a":{"dtype":"U8","shape":[4294967296,4294967296,8],"data_offsets":[0,8]}}"#),
    ("product that wraps to 8", #"{"a":{"dtype":"F64","shape":[2305843009213693953],"data_offsets":[0,8]}}"#),
    ("shape and range differ", #"{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,8]}}"#),
    ("fractional shape", #"{"a":{"dtype":"U8","shape":[8.0],"data_offsets":[0,8]}}"#),
    ("exponent", #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8e0]}}"#),
    ("leading zero", #"{"a":{"dtype":"U8","shape":[08],"data_offsets":[0,8]}}"#),
    ("one offset", #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[8]}}"#),
    ("three offsets", #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8,8]}}"#),
    ("unknown type", #"{"a":{"dtype":"X8","shape":[8],"data_offsets":[0,8]}}"#),
    ("no type", #"{"a":{"shape":[8],"data_offsets":[0,8]}}"#),
    ("type of the wrong kind", #"{"a":{"dtype":8,"shape":[8],"data_offsets":[0,8]}}"#),
    ("unknown key", #"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":1}}"#),
    ("tensor is a number", #"{"a":8}"#),
    ("metadata of numbers", #"{"__metadata__":{"a":1},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#),
    ("metadata is a list", #"{"__metadata__":[],"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#),
    ("deep nesting", "{\"a\":" + String(repeating: "[", count: 100_000)),
    ("open text", #"{"a"#), ("control character", "{\"a\u{1}\":1}"), ("half a surrogate", #"{"\ud800":1}"#),
    ("comment", "{/* */}"), ("nothing but a brace", "{"),
  ]

  @Test(arguments: hostile)
  func hostileHeaders(_ name: String, _ header: String) {
    let error = #expect(throws: FileError.self, "\(name)") { try opened(header: header, data: 8) }
    #expect(error?.kind == .malformed)
    #expect(error?.reason.count ?? 0 < 400, "a hostile file must not flood the terminal")
  }

  @Test func invalidUnicodeInAName() throws {
    let folder = try TemporaryFolder()
    var header = Data(#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#.utf8)
    header[2] = 0xFF
    let size = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Data($0) }
    try (size + header).write(to: URL(fileURLWithPath: folder.file("m")))
    #expect(throws: FileError.self) { try SafetensorsFile(folder.file("m")) }
  }
}
