import FermataFiles
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataModels

/// A small model of a published family with random weights, and what `transformers` makes of some tokens
/// (Scripts/golden/make_families.py).
struct FamilyGolden {
  let name: String
  let file: SafetensorsFile
  let config: JSONValue

  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Goldens/families").path

  /// All that are committed.
  static let names: [String] = ((try? PathQuery.names(in: folder)) ?? []).filter { $0.hasSuffix(".safetensors") }
    .map { String($0.dropLast(".safetensors".count)) }.sorted()

  init(_ name: String) throws {
    self.name = name
    file = try SafetensorsFile(Self.folder + "/\(name).safetensors")
    config = try StrictJSON.parse(Data((file.metadata["config"] ?? "").utf8), place: name)
  }

  /// The checkpoint's tensors under their own names.
  func weights() throws -> [(name: String, value: Tensor)] {
    let source = try SafetensorsFile(Self.folder + "/\(file.metadata["weights_of"] ?? name).safetensors")
    return try source.entries.filter { $0.name.hasPrefix("weights/") }
      .map { (String($0.name.dropFirst(8)), try TensorFile.tensor($0, of: source)) }
  }

  /// A model folder as `transformers` would have saved it.
  func write(
    to path: String, changing edits: [String: JSONValue] = [:], weights: [(name: String, value: Tensor)]? = nil
  ) throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    let object = (config.objectValue ?? [:]).merging(edits) { $1 }
    try Data(JSONValue.object(object).text(namesNonFinite: true).utf8)
      .write(to: URL(fileURLWithPath: path + "/config.json"))
    try TensorFile.write(weights ?? self.weights(), to: path + "/model.safetensors")
  }

  func tensor(_ name: String) throws -> Tensor? { try file.entry(name).map { try TensorFile.tensor($0, of: file) } }

  func inputs() throws -> ModelInputs {
    try ModelInputs(
      tokens: #require(try tensor("input_ids")), valid: tensor("attention_mask")?.cast(to: .uint8),
      types: tensor("token_type_ids"), decoderTokens: tensor("decoder_input_ids"))
  }

  /// The name of the output and its values.
  func expected() throws -> (name: String, values: Tensor) {
    for name in ["logits", "last_hidden_state"] {
      if let values = try tensor(name) { return (name, values) }
    }
    throw Mismatch("\(name): no golden output")
  }

  /// Rows that are no padding, as (rows, features). What stands in padding means nothing.
  func validRows(_ x: Tensor) throws -> Tensor {
    let rows = try x.reshaped([x.shape[0] * x.shape[1], x.shape[2]])
    guard let mask = try tensor("attention_mask"), mask.count == rows.shape[0] else { return rows }
    let chosen = try mask.values(as: Int32.self).enumerated().filter { $0.element != 0 }.map { Int32($0.offset) }
    return try rows.rows(at: Tensor(chosen, shape: [chosen.count]))
  }
}

/// A folder that goes with the object.
final class ScratchFolder {
  let path = NSTemporaryDirectory() + "fermata-models-\(UUID().uuidString)"
  init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: path) }
}
