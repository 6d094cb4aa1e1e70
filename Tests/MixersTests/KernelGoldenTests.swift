import FermataFiles
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataMixers

/// One of PyTorch's answers under Tests/Goldens.
struct Golden {
  private let file: SafetensorsFile

  static func path(_ name: String) -> String {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    return tests.appendingPathComponent("Goldens/\(name).safetensors").path
  }

  /// Whether the file is there. One that is missing is named in the output, so that a skipped test is never a silent one.
  static func exists(_ name: String) -> Bool {
    if FileManager.default.fileExists(atPath: path(name)) { return true }
    print("SKIPPED 1 golden test: \(path(name)) is missing")
    return false
  }

  init(_ name: String) throws {
    TestRun.prepare()
    file = try SafetensorsFile(Golden.path(name))
  }

  /// The tensor of this name.
  func callAsFunction(_ name: String) throws -> Tensor {
    guard let entry = file.entry(name), let dtype = DType(rawValue: entry.dtype) else {
      throw Mismatch("\(file.path) has no tensor '\(name)' of a type we read")
    }
    return try file.withBytes(of: entry) { bytes in
      func values<Element: TensorElement>(_ type: Element.Type) throws -> Tensor {
        let size = MemoryLayout<Element>.size
        return try Tensor(
          (0..<entry.count).map { bytes.loadUnaligned(fromByteOffset: $0 * size, as: Element.self) }, shape: entry.shape
        )
      }
      switch dtype {
      case .float32: return try values(Float.self)
      case .int32: return try values(Int32.self)
      case .int64: return try values(Int64.self)
      case .uint8: return try values(UInt8.self)
      case .bfloat16: throw Mismatch("\(file.path): '\(name)' is bf16, which goldens are not")
      }
    }
  }

  /// What the metadata says under this name.
  func fact(_ name: String) throws -> JSONValue {
    let facts = try StrictJSON.parse(Array((file.metadata["fermata"] ?? "{}").utf8), place: file.path)
    guard case .object(let fields) = facts, let value = fields[name] else {
      throw Mismatch("\(file.path) does not say '\(name)'")
    }
    return value
  }

  func number(_ name: String) throws -> Double {
    let facts = try JSONSerialization.jsonObject(with: Data((file.metadata["fermata"] ?? "{}").utf8)) as? [String: Any]
    guard let value = facts?[name] as? NSNumber else { throw Mismatch("\(file.path) does not say '\(name)'") }
    return value.doubleValue
  }
}

@Suite struct KernelGoldenTests {
  @Test(.enabled("the golden file is missing") { Golden.exists("attention") }) func attentionGivesPyTorchsAnswers()
    throws
  {
    let golden = try Golden("attention")
    let (query, doutput) = (try golden("query"), try golden("doutput"))
    let scale = Float(try golden.number("scale"))
    let (window, sinks, prefix) = (
      Int(try golden.number("window")), Int(try golden.number("sinks")), Int(try golden.number("prefix"))
    )
    var documents = AttentionMask.causal
    documents.queryDocuments = try golden("documents").reshaped([1, query.shape[1]])
    documents.keyDocuments = documents.queryDocuments
    let cases: [(String, AttentionMask)] = [
      ("causal", .causal), ("window", AttentionMask(isCausal: true, window: window)),
      ("window_sinks", AttentionMask(isCausal: true, window: window, sinks: sinks)), ("documents", documents),
      ("prefix", AttentionMask(isCausal: true, prefix: prefix)), ("cross", .everything),
    ]
    try onEveryPath(emulatesTiles: true) { path in
      for (name, mask) in cases {
        let (key, value) =
          name == "cross"
          ? (try golden("context_key"), try golden("context_value")) : (try golden("key"), try golden("value"))
        let shown = try mask.dense(batch: 1, queries: query.shape[1], keys: key.shape[1]).flatMap {
          $0.flatMap { $0.map { UInt8($0 ? 1 : 0) } }
        }
        guard try golden("\(name)/mask").values(as: UInt8.self) == shown else {
          throw Mismatch("\(name): another mask than PyTorch's")
        }
        let leaves = [query, key, value].map { $0.tracked() }
        let (output, statistics) = try attentionWithStatistics(
          leaves[0], leaves[1], leaves[2], mask: mask, scale: scale)
        let found = try gradients(of: [(output, doutput)])
        try expectClose(output.detached, golden("\(name)/output"), .fused(.float32), "\(name) output")
        try expectClose(statistics.detached, golden("\(name)/log_sum_exp"), .fused(.float32), "\(name) log-sum-exp")
        for (leaf, part) in zip(leaves, ["dquery", "dkey", "dvalue"]) {
          guard let gradient = found[leaf] else { throw Mismatch("\(name): no \(part)") }
          try expectClose(gradient, golden("\(name)/\(part)"), .fusedGradient(.float32), "\(name) \(part)")
        }
        let narrow = try [query, key, value].map { try $0.cast(to: .bfloat16) }
        let rounded = try attention(narrow[0], narrow[1], narrow[2], mask: mask, scale: scale).cast(to: .float32)
        try expectClose(rounded, golden("\(name)/output"), Tolerance(ratio: 1.5e-2, floor: 0), "\(name) output in bf16")
      }
    }
  }

  private static func checkScan(_ name: String) throws {
    let golden = try Golden(name)
    let names = ["query", "key", "value", "gate", "initial_state"]
    let inputs = try names.map { try golden($0) }
    let scale = Float(try golden.number("scale"))
    try onEveryPath { path in
      for slow in [false, true] {
        let leaves = inputs.map { $0.tracked() }
        let scan = slow ? gatedScanReference : gatedScan
        let (output, state) = try scan(leaves[0], leaves[1], leaves[2], leaves[3], nil, nil, leaves[4], nil, scale)
        let found = try gradients(of: [(output, golden("doutput")), (state, golden("dfinal_state"))])
        let label = "\(name)\(slow ? " reference" : "")"
        try expectClose(output.detached, golden("output"), .fused(.float32), "\(label) output")
        try expectClose(state.detached, golden("final_state"), .fused(.float32), "\(label) final state")
        for (leaf, part) in zip(leaves, names) {
          guard let gradient = found[leaf] else { throw Mismatch("\(label): no gradient of \(part)") }
          try expectClose(gradient, golden("d\(part)"), .fusedGradient(.float32), "\(label) d\(part)")
        }
      }
    }
  }

  @Test(.enabled("the golden file is missing") { Golden.exists("gated_linear_attention") })
  func gatedLinearAttentionGivesPyTorchsAnswers() throws {
    try Self.checkScan("gated_linear_attention")
  }

  @Test(.enabled("the golden file is missing") { Golden.exists("mamba2_scan") })
  func mamba2GivesPyTorchsAnswers() throws {
    try Self.checkScan("mamba2_scan")
  }
}
