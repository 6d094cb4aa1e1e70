import Foundation

/// Functions that every template can call: one line each.
enum TemplateFunctions {
  /// As many elements as a `range` may have.
  private static let longestRange = 100_000

  typealias Function = @Sendable (inout TemplateRenderer, TemplateArguments) throws -> TemplateValue

  static let all: [String: Function] = [
    "range": { _, arguments in try range(arguments) },
    "namespace": { _, arguments in .namespace(TemplateNamespace(try mapping(arguments))) },
    "dict": { _, arguments in .mapping(try mapping(arguments)) },
    "raise_exception": { _, arguments in
      throw TemplateError(try arguments.needed(0, "message").printed, isRefusal: true)
    },
    "strftime_now": { _, arguments in .text(try now(arguments.text(0, "format") ?? "")) },
  ]

  private static func range(_ arguments: TemplateArguments) throws -> TemplateValue {
    let bounds = try arguments.values.map { value in
      guard let whole = value.whole else { throw TemplateError("'range' needs whole numbers, got \(value.kind)") }
      return whole
    }
    guard (1...3).contains(bounds.count) else { throw TemplateError("'range' takes one to three numbers") }
    let (start, end) = bounds.count == 1 ? (0, bounds[0]) : (bounds[0], bounds[1])
    let step = bounds.count == 3 ? bounds[2] : 1
    let limit = 1 << 40
    guard step != 0, [start, end, step].allSatisfy({ abs($0.clamped(limit)) < limit }) else {
      throw TemplateError("'range' needs a step other than 0 and bounds below 2^40")
    }
    guard abs(end - start) / abs(step) <= longestRange else {
      throw TemplateError("'range' has more than \(longestRange) elements")
    }
    return .list(stride(from: start, to: end, by: step).map { .integer($0) })
  }

  private static func mapping(_ arguments: TemplateArguments) throws -> TemplateMapping {
    var result = TemplateMapping()
    for value in arguments.values {
      guard case .mapping(let given) = value else { throw TemplateError("a mapping was expected, got \(value.kind)") }
      for pair in given.pairs { result[pair.key] = pair.value }
    }
    for (name, value) in arguments.named { result[name] = value }
    return result
  }

  /// Today by `strftime`'s letters, in local time.
  private static func now(_ format: String) throws -> String {
    guard !format.isEmpty, format.utf8.count <= 256 else { return "" }
    var seconds = time(nil)
    var parts = tm()
    localtime_r(&seconds, &parts)
    var buffer = [CChar](repeating: 0, count: 2048)
    let count = strftime(&buffer, buffer.count, format, &parts)
    return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

extension Int {
  fileprivate func clamped(_ limit: Int) -> Int { Swift.min(Swift.max(self, -limit), limit) }
}
