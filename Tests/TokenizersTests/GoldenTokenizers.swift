import FermataFiles
import Foundation
import Testing

@testable import FermataTokenizers

/// The file that Scripts/golden/make_tokenizer_goldens.py writes, and the texts that both sides draw.
struct GoldenTokenizers {
  struct Case: CustomTestStringConvertible, Sendable {
    /// With the ending of its file.
    var name: String
    /// The bytes of the file.
    var file: [UInt8]
    var digests: [String]

    var testDescription: String { name }

    func load(in folder: TokenizerFolder) throws -> any Tokenizer {
      try folder.write(file, to: name)
      return try TokenizerFiles.load(folder.file(name))
    }
  }

  var cases: [Case]
  var block: Int
  private var atoms: [[UInt8]]
  private var seed: UInt64

  static let shared = try? GoldenTokenizers()

  init() throws {
    let url = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let value = try StrictJSON.read(url.path + "/Goldens/tokenizers.json")
    let models = value["models"]
    func digests(_ entry: JSONValue) -> [String] { (entry["digests"]?.arrayValue ?? []).compactMap(\.stringValue) }
    cases = try (value["tokenizers"]?.arrayValue ?? []).compactMap { entry in
      guard let name = entry["name"]?.stringValue, let model = entry["model"]?.stringValue,
        let parts = entry["parts"], let text = models?[model]?.stringValue
      else { return nil }
      // Texts put together: vocabularies hold keys that are equal as Swift compares texts.
      let file = try parts.text().dropLast() + ",\"version\":\"1.0\",\"model\":\(text)}"
      return Case(name: name + ".json", file: Array(file.utf8), digests: digests(entry))
    }
    cases += (value["sentence_pieces"]?.arrayValue ?? []).compactMap { entry in
      guard let name = entry["name"]?.stringValue, let file = entry["file"]?.stringValue,
        let bytes = Data(base64Encoded: file)
      else { return nil }
      return Case(name: name + ".model", file: Array(bytes), digests: digests(entry))
    }
    block = value["block"]?.intValue ?? 0
    seed = UInt64(value["seed"]?.intValue ?? 0)
    atoms = (value["atoms"]?.arrayValue ?? []).compactMap { $0.stringValue.map { Array($0.utf8) } }
  }

  /// The case with a name.
  func named(_ name: String) throws -> Case { try #require(cases.first { $0.name == name }) }

  /// The first `count` texts.
  func texts(_ count: Int) -> [[UInt8]] {
    var state = seed
    func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var value = state
      value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
      value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
      return value ^ value >> 31
    }
    return (0..<count).map { _ in
      (0..<next() % 25).flatMap { _ in atoms[Int(next() % UInt64(atoms.count))] }
    }
  }
}

/// FNV-1a, 64 bits.
struct Digest {
  private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

  mutating func add(_ bytes: some Sequence<UInt8>) {
    for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }
  }

  mutating func add(_ ids: [Int]) {
    for id in ids + [0xFFFF_FFFF] { for shift in [0, 8, 16, 24] { add([UInt8(truncatingIfNeeded: id >> shift)]) } }
  }

  var text: String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}

/// A folder of its own for a test, deleted with the object.
final class TokenizerFolder: Sendable {
  let path = NSTemporaryDirectory() + "/fermata-tokenizers-\(UUID().uuidString)"

  init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }

  func write(_ bytes: some Sequence<UInt8>, to name: String) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: file(name)))
  }
}
