/// Replaces matches of a pattern inside each token.
struct ReplaceDecoding: DecodingStep {
  let replace: Replace

  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) throws {
    output.append(try replace.normalize(piece))
  }
}

/// Replaces matches of a pattern in the whole text, which therefore waits until its end.
struct FusedReplaceDecoding: DecodingStep {
  let replace: Replace
  private var text: [UInt8] = []

  init(replace: Replace) { self.replace = replace }

  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) { text += piece }

  mutating func finish(into output: inout [[UInt8]]) throws {
    defer { text = [] }
    output.append(try replace.normalize(text))
  }
}

/// Removes up to so many of one character from the start and the end: of each token, or of the whole text.
struct StripDecoding: DecodingStep {
  private let content: [UInt8]
  private let start: Int
  private let stop: Int
  private let isFused: Bool
  /// How many may still be removed from the start of the whole text; nil once it has begun.
  private var leftToStrip: Int?
  /// The end of the whole text so far, which may have to go.
  private var tail: [UInt8] = []

  init(_ settings: Settings, isFused: Bool) throws {
    content = Array(String(Character(try settings.character("content") ?? " ")).utf8)
    start = max(0, try settings.integer("start") ?? 0)
    stop = max(0, try settings.integer("stop") ?? 0)
    self.isFused = isFused
    leftToStrip = start
  }

  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) {
    guard isFused else {
      let (begun, _) = strippedStart(piece, start)
      return output.append(strippedEnd(begun))
    }
    var text = piece
    if let left = leftToStrip {
      let (rest, removed) = strippedStart(text, left)
      leftToStrip = rest.isEmpty && removed < left ? left - removed : nil
      text = rest
    }
    text = tail + text
    let kept = strippedEnd(text)
    tail = Array(text[kept.count...])
    if !kept.isEmpty { output.append(kept) }
  }

  private func strippedStart(_ text: [UInt8], _ most: Int) -> ([UInt8], removed: Int) {
    var place = 0
    var removed = 0
    while removed < most, text[place...].starts(with: content) {
      place += content.count
      removed += 1
    }
    return (Array(text[place...]), removed)
  }

  private func strippedEnd(_ text: [UInt8]) -> [UInt8] {
    var end = text.count
    var removed = 0
    while removed < stop, end >= content.count, text[end - content.count..<end].elementsEqual(content) {
      end -= content.count
      removed += 1
    }
    return Array(text[..<end])
  }
}
