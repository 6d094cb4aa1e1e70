import Foundation

/// Why a tokenizer could not be read or used: which one, what is wrong, and what to do.
public struct TokenizerError: Error, Equatable, Sendable, CustomStringConvertible, LocalizedError {
  /// The file, or the kind of tokenizer, and the part of it.
  public let place: String
  /// What is wrong: what was expected and what came.
  public let problem: String
  /// What the user can do; empty where nothing useful can be said.
  public let advice: String

  /// An error of a reader of tokenizers.
  public init(_ place: String, _ problem: String, advice: String = "") {
    self.place = place
    self.problem = problem
    self.advice = advice
  }

  public var description: String { "\(place): \(problem)" + (advice.isEmpty ? "" : " (\(advice))") }
  public var errorDescription: String? { description }

  /// The error for an id that names no token.
  static func unknownID(_ id: Int, _ place: String, size: Int) -> TokenizerError {
    TokenizerError(
      place, "there is no token \(id); ids go from 0 to \(size - 1)",
      advice: "use the tokenizer of the model that made it")
  }
}
