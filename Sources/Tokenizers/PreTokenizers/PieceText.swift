/// A text and the pieces it has been cut into so far.
struct PieceText {
  var bytes: [UInt8]
  /// In order; none is empty.
  var pieces: [Range<Int>]
  /// Whether the first piece begins where the text that was given begins.
  private(set) var beginsAtOrigin: Bool

  init(_ bytes: [UInt8], beginsAtOrigin: Bool) {
    self.bytes = bytes
    self.beginsAtOrigin = beginsAtOrigin
    pieces = bytes.isEmpty ? [] : [0..<bytes.count]
  }

  private mutating func keepOrigin(_ newFirst: Range<Int>?) {
    if let old = pieces.first, let newFirst, newFirst.lowerBound != old.lowerBound { beginsAtOrigin = false }
  }

  /// Cuts every piece where `matches` finds something.
  /// - Parameter matches: calls its last argument with the matches in a range, in order.
  mutating func split(
    _ behavior: SplitBehavior, inverted: Bool = false,
    _ matches: (UnsafeBufferPointer<UInt8>, Range<Int>, (Range<Int>) -> Void) throws -> Void
  ) rethrows {
    var cutter = PieceCutter(behavior)
    cutter.pieces.reserveCapacity(max(pieces.count, bytes.count / 8))
    try bytes.withUnsafeBufferPointer { buffer in
      for piece in pieces {
        cutter.begin()
        var end = piece.lowerBound
        try matches(buffer, piece) { match in
          if end < match.lowerBound { cutter.add(end..<match.lowerBound, isMatch: inverted) }
          cutter.add(match, isMatch: !inverted)
          end = match.upperBound
        }
        if end < piece.upperBound { cutter.add(end..<piece.upperBound, isMatch: inverted) }
        cutter.finish()
      }
    }
    keepOrigin(cutter.pieces.first)
    pieces = cutter.pieces
  }

  /// Cuts every piece at the scalars of a set.
  mutating func split(at set: ScalarBitmap, _ behavior: SplitBehavior) {
    let view = set.view
    split(behavior) { buffer, range, match in
      guard let bytes = buffer.baseAddress else { return }
      var place = range.lowerBound
      while place < range.upperBound {
        let (scalar, length) = UTF8Scalar.decode(bytes, place, range.upperBound)
        if view.contains(scalar) { match(place..<place + length) }
        place += length
      }
    }
  }

  /// Writes every piece anew.
  /// - Parameter body: appends what a piece becomes; also told whether the piece begins at the text's origin.
  mutating func rewrite(_ body: (Slice<UnsafeBufferPointer<UInt8>>, Bool, inout [UInt8]) -> Void) {
    var output: [UInt8] = []
    output.reserveCapacity(bytes.count + bytes.count / 4)
    var ranges: [Range<Int>] = []
    ranges.reserveCapacity(pieces.count)
    bytes.withUnsafeBufferPointer { buffer in
      for (index, piece) in pieces.enumerated() {
        let start = output.count
        body(buffer[piece], index == 0 && beginsAtOrigin, &output)
        if output.count > start { ranges.append(start..<output.count) }
      }
    }
    (bytes, pieces) = (output, ranges)
  }
}

/// What becomes of the matches when a piece is cut.
enum SplitBehavior: String, Sendable {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"

  /// The behaviour that settings name under `key`; nil where they name none.
  init?(_ settings: Settings, _ key: String) throws {
    guard let name = try settings.text(key) else { return nil }
    guard let behavior = SplitBehavior(rawValue: name) else {
      throw settings.error("'\(key)' cannot be '\(name)'")
    }
    self = behavior
  }
}

/// Puts matches and what lies between them together, as a behaviour says.
private struct PieceCutter {
  private let behavior: SplitBehavior
  var pieces: [Range<Int>] = []
  private var first = 0
  private var wasMatch = false
  private var waiting: Range<Int>?

  init(_ behavior: SplitBehavior) { self.behavior = behavior }

  mutating func begin() {
    first = pieces.count
    wasMatch = false
  }

  @inline(__always)
  private mutating func append(_ range: Range<Int>) {
    if !range.isEmpty { pieces.append(range) }
  }

  private mutating func extend(_ range: Range<Int>) {
    if pieces.count > first, let last = pieces.popLast() {
      pieces.append(last.lowerBound..<range.upperBound)
    } else {
      append(range)
    }
  }

  @inline(__always)
  mutating func add(_ range: Range<Int>, isMatch: Bool) {
    switch behavior {
    case .isolated: append(range)
    case .removed: if !isMatch { append(range) }
    case .contiguous: if isMatch == wasMatch { extend(range) } else { append(range) }
    case .mergedWithPrevious: if isMatch && !wasMatch { extend(range) } else { append(range) }
    case .mergedWithNext:
      if isMatch {
        finish()
        waiting = range
      } else {
        append((waiting?.lowerBound ?? range.lowerBound)..<range.upperBound)
        waiting = nil
      }
    }
    wasMatch = isMatch
  }

  mutating func finish() {
    if let waiting { append(waiting) }
    waiting = nil
  }
}
