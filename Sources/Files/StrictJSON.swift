import Foundation

/// What is wrong with a JSON document: where, and what.
public struct JSONError: Error, Equatable, Sendable, CustomStringConvertible, LocalizedError {
  /// The file or the part of it.
  public let place: String
  /// What is wrong and what to do.
  public let problem: String

  /// An error of a caller that checks more than this module does.
  public init(place: String, problem: String) {
    self.place = place
    self.problem = problem
  }

  public var description: String { "\(place): \(problem)" }
  public var errorDescription: String? { description }

  /// Text from a file, made fit for one line of a message.
  static func shown(_ text: String) -> String {
    let short = text.count > 60 ? text.prefix(60) + "…" : Substring(text)
    return String(short.map { $0.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F } ? $0 : "?" })
  }
}

/// Reads configurations without forgiving: misspelt keys, repeated keys and wrong types are errors that name the key.
public enum StrictJSON {
  /// Reads a document from bytes. `place` names it in errors.
  /// - Throws: `JSONError` with line and column.
  public static func parse(_ bytes: some ContiguousBytes, place: String) throws -> JSONValue {
    try bytes.withUnsafeBytes { try JSONScanner.parse($0, place: place) }
  }

  /// Reads a document from a file.
  /// - Throws: `FileError` when it cannot be read, `JSONError` when it is not JSON.
  public static func read(_ path: String) throws -> JSONValue {
    let mapping = try FileMapping(path)
    return try withExtendedLifetime(mapping) { try JSONScanner.parse(mapping.bytes, place: path) }
  }

  /// Reads a document as Python's tools write it: bare NaN and Infinity are numbers, and so is an object with the only key
  /// `__float__` that names one.
  /// - Throws: `FileError` when it cannot be read, `JSONError` when it is not JSON.
  public static func readForeign(_ path: String) throws -> JSONValue {
    let mapping = try FileMapping(path)
    return try withExtendedLifetime(mapping) {
      try JSONScanner.parse(mapping.bytes, place: path, allowsNonFinite: true).withNamedNumbers
    }
  }

  /// Writes a document, indented and with sorted keys, whole or not at all.
  public static func write(_ value: JSONValue, to path: String) throws {
    try AtomicFile.write(Data((value.text(indented: true) + "\n").utf8), to: path)
  }

  /// Refuses keys that nobody reads, naming the nearest one that somebody does.
  /// - Throws: `JSONError`, as "unknown key 'head'; did you mean 'heads'?".
  public static func checkKeys(object: [String: JSONValue], allowed: [String], where place: String) throws {
    let known = Set(allowed)
    guard let key = object.keys.filter({ !known.contains($0) }).min() else { return }
    let advice: String
    if let near = nearest(key, in: allowed) {
      advice = "did you mean '\(near)'?"
    } else if allowed.isEmpty {
      advice = "no keys are expected here"
    } else {
      advice = "known keys are \(allowed.sorted().joined(separator: ", "))"
    }
    throw JSONError(place: place, problem: "unknown key '\(JSONError.shown(key))' (\(advice))")
  }

  /// Decodes a type from a document whose keys are all among `allowed`.
  /// - Throws: `JSONError` that names the key which is unknown, missing or of the wrong type.
  public static func decode<Value: Decodable>(
    _ type: Value.Type, from value: JSONValue, allowed: [String], where place: String
  ) throws -> Value {
    guard let object = value.objectValue else { throw wrongKind("the document", "an object", value, place) }
    try checkKeys(object: object, allowed: allowed, where: place)
    do {
      return try JSONDecoder().decode(type, from: Data(value.text().utf8))
    } catch let error as DecodingError {
      throw JSONError(place: place, problem: explanation(error, in: value))
    }
  }

  /// What to say of a name that nobody knows: "did you mean 'heads'? known: heads, width".
  public static func unknown(_ name: String, among known: [String]) -> String {
    let near = nearest(name, in: known).map { "did you mean '\($0)'? " } ?? ""
    return near + "known: " + known.sorted().joined(separator: ", ")
  }

  /// The candidate that a misspelt `name` most likely stands for; nil when none is near. Letter case is ignored.
  public static func nearest(_ name: String, in candidates: [String]) -> String? {
    let wanted = Array(name.lowercased().prefix(100))
    var best: (candidate: String, distance: Int)?
    for candidate in candidates {
      let distance = distance(wanted, Array(candidate.lowercased()))
      // One slip in three letters is a slip of the finger; more is another word.
      let allowed = max(1, min(wanted.count, candidate.count) / 3)
      if distance <= allowed, distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    return best?.candidate
  }

  /// Edits (insertion, deletion, substitution, swap of neighbours) that make one text of the other: the restricted
  /// Damerau-Levenshtein distance.
  static func distance(_ first: [Character], _ second: [Character]) -> Int {
    var beforeLast: [Int] = []
    var last = Array(0...second.count)
    for (row, character) in first.enumerated() {
      var current = [row + 1]
      for (column, other) in second.enumerated() {
        var best = min(last[column + 1] + 1, current[column] + 1, last[column] + (character == other ? 0 : 1))
        if row > 0, column > 0, character == second[column - 1], first[row - 1] == other {
          best = min(best, beforeLast[column - 1] + 1)
        }
        current.append(best)
      }
      (beforeLast, last) = (last, current)
    }
    return last[second.count]
  }

  private static func wrongKind(_ what: String, _ expected: String, _ found: JSONValue, _ place: String) -> JSONError {
    JSONError(place: place, problem: "\(what) must be \(expected), not \(found.kind)")
  }

  private static func explanation(_ error: DecodingError, in value: JSONValue) -> String {
    switch error {
    case .keyNotFound(let key, let context):
      return "the key '\(path(context.codingPath + [key]))' is missing"
    case .typeMismatch(let type, let context), .valueNotFound(let type, let context):
      return "the key '\(path(context.codingPath))' must be \(name(of: type)), not \(found(context.codingPath, value))"
    case .dataCorrupted(let context):
      let key = path(context.codingPath)
      if !key.isEmpty { return "the key '\(key)' does not fit (\(context.debugDescription))" }
      // Foundation does not say which number it could not store, but only those with a fraction can be meant.
      let keys = fractions(value).sorted().map { "'\($0)'" }.joined(separator: ", ")
      return keys.isEmpty ? "\(context.debugDescription)" : "a whole number is needed; look at \(keys)"
    @unknown default:
      return "\(error)"
    }
  }

  /// The keys of numbers that are not whole.
  private static func fractions(_ value: JSONValue) -> [String] {
    switch value {
    case .double: [""]
    case .array(let elements): elements.enumerated().flatMap { place, element in below("\(place)", element) }
    case .object(let members): members.flatMap { key, member in below(key, member) }
    default: []
    }
  }

  private static func below(_ key: String, _ value: JSONValue) -> [String] {
    fractions(value).map { $0.isEmpty ? key : key + "." + $0 }
  }

  private static func path(_ keys: [any CodingKey]) -> String {
    keys.map { $0.intValue.map { "\($0)" } ?? $0.stringValue }.joined(separator: ".")
  }

  private static func found(_ keys: [any CodingKey], _ value: JSONValue) -> String {
    var value = value
    for key in keys {
      if let members = value.objectValue, let member = members[key.stringValue] {
        value = member
      } else if let index = key.intValue, let elements = value.arrayValue, elements.indices.contains(index) {
        value = elements[index]
      }
    }
    return value.kind
  }

  private static func name(of type: any Any.Type) -> String {
    switch type {
    case is any BinaryInteger.Type: "a whole number"
    case is any BinaryFloatingPoint.Type: "a number"
    case is Bool.Type: "true or false"
    case is String.Type: "a text"
    default: "\(type)"
    }
  }
}
