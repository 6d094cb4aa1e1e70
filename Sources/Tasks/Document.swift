import Foundation

/// A text that stands for itself: nothing in it is predicted from another document.
public struct Document: Equatable, Sendable {
  /// Where it came from: a path, or a path and a number.
  public var name: String
  /// Its bytes, mapped from the file where that is possible.
  public var bytes: Data

  /// A document of bytes.
  public init(name: String, bytes: Data) {
    self.name = name
    self.bytes = bytes
  }
}

/// A document as token numbers, ready to be packed.
public struct TokenDocument: Sendable {
  private enum Storage: Sendable {
    case bytes(Data)
    case tokens([Int32])
  }

  private let storage: Storage
  /// Where it came from.
  public let name: String

  /// Bytes as tokens 0...255, without a copy.
  public init(_ document: Document) {
    name = document.name
    storage = .bytes(document.bytes)
  }

  /// Tokens made by a tokenizer.
  public init(name: String, tokens: [Int32]) {
    self.name = name
    storage = .tokens(tokens)
  }

  /// Number of tokens, the begin-of-document token aside.
  public var count: Int {
    switch storage {
    case .bytes(let data): data.count
    case .tokens(let tokens): tokens.count
    }
  }

  /// Copies the tokens `range` to `output`, which has room for them.
  func copy(_ range: Range<Int>, to output: UnsafeMutablePointer<Int32>) {
    switch storage {
    case .bytes(let data):
      data.withUnsafeBytes { bytes in
        for (offset, index) in range.enumerated() { output[offset] = Int32(bytes[index]) }
      }
    case .tokens(let tokens):
      for (offset, index) in range.enumerated() { output[offset] = tokens[index] }
    }
  }
}
