import FermataFiles
import FermataMixers
import FermataTemplates
import FermataTensors
import FermataTokenizers
import Foundation

/// A loader under test: sound files to damage, and what is done with a damaged one.
struct Target: Sendable {
  let name: String
  let mutator: Mutator
  /// Bytes of further files that the loader reads, which justify memory too.
  var beside = 0
  /// Bytes that rendering or running may take whatever the file's size, because what is allowed to be made is bounded so.
  var allowance = 0
  /// Writes the damaged file where the loader looks for it (`place` is a folder for this loader alone), loads and uses it.
  /// Whatever is thrown must be one of the library's own errors.
  let attempt: @Sendable (_ file: [UInt8], _ seed: Int, _ place: Folder) throws -> Void

  init(
    _ name: String, _ seeds: [Seed], dictionary: [[UInt8]], beside: Int = 0, allowance: Int = 0,
    attempt: @escaping @Sendable (_ file: [UInt8], _ seed: Int, _ place: Folder) throws -> Void
  ) {
    self.name = name
    mutator = Mutator(seeds: seeds, dictionary: dictionary)
    self.beside = beside
    self.allowance = allowance
    self.attempt = attempt
  }

  /// Whether an error is one that says what is wrong.
  static func isTyped(_ error: any Error) -> Bool {
    switch error {
    case is FileError, is JSONError, is ConfigurationError, is TensorError, is TokenizerError, is TemplateError: true
    default: false
    }
  }
}

/// A folder of a loader's own.
struct Folder: Sendable {
  let path: String

  init(_ path: String) throws {
    self.path = path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  func file(_ name: String) -> String { path + "/" + name }

  /// A file of this name with these bytes, in place of the one before: that may still be mapped.
  @discardableResult
  func write(_ bytes: [UInt8], to name: String) throws -> String {
    let path = file(name)
    unlink(path)
    guard FileManager.default.createFile(atPath: path, contents: Data(bytes)) else {
      throw CocoaError(.fileWriteUnknown)
    }
    return path
  }

  func folder(_ name: String) throws -> Folder { try Folder(file(name)) }
}
