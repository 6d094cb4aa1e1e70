import FermataFiles
import Foundation

/// Finds out what kind of tokenizer a path names, and reads it.
public enum TokenizerFiles {
  /// A kind of tokenizer file: how it is recognised, and how it is read.
  private struct Format: Sendable {
    var name: String
    var matches: @Sendable (_ path: String) -> Bool
    var load: @Sendable (_ path: String) throws -> any Tokenizer
  }

  private static let formats: [Format] = [
    Format(
      name: "tokenizer.json", matches: { $0.hasSuffix(".json") || beginsLikeJSON($0) },
      load: { try TokenizerJSON.load($0) }),
    Format(name: "GGUF", matches: { GGUFFile.matches($0) }, load: { try GGUFTokenizer.load($0) }),
    Format(
      name: "SentencePiece model", matches: { $0.hasSuffix(".model") || SentencePieceFile.matches($0) },
      load: { try SentencePieceTokenizer.load($0) }),
  ]

  /// Tokenizers that need no file.
  private static let named: [String: @Sendable () -> any Tokenizer] = [
    "bytes": { ByteTokenizer() }, "dna": { DNATokenizer() },
  ]

  /// Files that a model folder may hold its tokenizer in, best first.
  private static let fileNames = ["tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"]

  /// Reads a tokenizer.
  /// - Parameter path: a file of a known kind; a model's folder, or that of a training run; or a name: `bytes`, `dna`.
  /// - Throws: `FileError` when there is nothing to read, `TokenizerError` or `JSONError` when it is not understood.
  public static func load(_ path: String) throws -> any Tokenizer {
    let current = AtomicFolder.current(path)
    if PathQuery.isFolder(current) { return try load(folder: current) }
    if PathQuery.status(current) == nil, let make = named[path] { return make() }
    guard PathQuery.status(path) != nil else { throw FileError.system("read the tokenizer", path, code: ENOENT) }
    guard let format = formats.first(where: { $0.matches(path) }) else {
      let known = (formats.map(\.name) + named.keys.sorted()).joined(separator: ", ")
      throw TokenizerError(path, "it is no tokenizer of a known kind", advice: "known: \(known)")
    }
    return try format.load(path)
  }

  private static func beginsLikeJSON(_ path: String) -> Bool {
    guard let mapping = try? FileMapping(path) else { return false }
    return mapping.bytes.first { $0 > 0x20 } == UInt8(ascii: "{")
  }

  private static func load(folder: String) throws -> any Tokenizer {
    let folders = [folder] + ["best", "last"].map { AtomicFolder.current(PathQuery.join(folder, $0)) }
    for folder in folders where PathQuery.isFolder(folder) {
      for name in fileNames where PathQuery.status(PathQuery.join(folder, name)) != nil {
        return try load(PathQuery.join(folder, name))
      }
      if let tokenizer = try SeparateVocabulary.load(folder: folder) { return tokenizer }
      if let name = try PathQuery.names(in: folder).first(where: { $0.hasSuffix(".gguf") }) {
        return try load(PathQuery.join(folder, name))
      }
      if let tokenizer = try ofConfiguration(PathQuery.join(folder, "config.json")) { return tokenizer }
    }
    throw FileError(
      path: folder, operation: "read the tokenizer", kind: .missing, reason: "the folder holds none",
      advice:
        "a model's folder holds \((fileNames + ["vocab.json and merges.txt", "vocab.txt", "a .gguf file", "a config.json that says \"tokenizer\": \"bytes\""]).joined(separator: " or "))"
    )
  }

  /// The tokenizer that the configuration of a model of our own names; nil for other models.
  private static func ofConfiguration(_ path: String) throws -> (any Tokenizer)? {
    guard PathQuery.status(path) != nil else { return nil }
    let configuration = try StrictJSON.read(path)
    guard configuration["model_type"]?.stringValue == "fermata" else { return nil }
    guard configuration["tokenizer"]?.stringValue ?? "bytes" == "bytes" else { return nil }
    return ByteTokenizer(beginToken: configuration["bos_token_id"]?.intValue ?? 256)
  }
}
