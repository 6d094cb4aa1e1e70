/// Runs an expression over one text.
struct PatternMatcher {
  private struct Choice {
    /// Where to go on; for registers, the negative number of the register less one.
    var instruction: Int32
    /// The place to go on from, or what the register held.
    var place: Int
    /// A run may be cut down to this place; equal to `place` for other choices.
    var lowest: Int
  }

  private let bytes: UnsafePointer<UInt8>
  private let start: Int
  private let end: Int
  private let instructions: UnsafeBufferPointer<PatternInstruction>
  private let bitmaps: [ScalarBitmap.View]
  private var registers: [Int]
  private var choices: [Choice] = []
  private var steps: Int

  private struct TooManySteps: Error {}

  /// Calls `body` with the matches inside a range of a text, in order: the text is what lies in the range, its bounds its
  /// ends. Matches do not overlap; an empty one never touches the end of the one before.
  /// - Throws: `TokenizerError` when the expression takes too long on this text.
  static func matches(
    of pattern: Pattern, in text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ body: (Range<Int>) -> Void
  ) throws {
    guard let bytes = text.baseAddress, !range.isEmpty else { return }
    do {
      try pattern.instructions.withUnsafeBufferPointer { instructions in
        var matcher = PatternMatcher(pattern, bytes, range, instructions)
        try withExtendedLifetime(pattern.bitmaps) { try matcher.search(pattern.firstBytes, body) }
      }
    } catch is TooManySteps {
      throw TokenizerError(
        "the regular expression \(pattern.source.prefix(200))", "it takes too long on this text",
        advice: "it goes back and forth over the same characters; simplify it")
    }
  }

  private init(
    _ pattern: Pattern, _ bytes: UnsafePointer<UInt8>, _ range: Range<Int>,
    _ instructions: UnsafeBufferPointer<PatternInstruction>
  ) {
    self.bytes = bytes
    start = range.lowerBound
    end = range.upperBound
    self.instructions = instructions
    bitmaps = pattern.bitmaps.map(\.view)
    registers = [Int](repeating: -1, count: pattern.registers)
    steps = 100_000 + 1000 * range.count
  }

  private mutating func search(_ firstBytes: [Bool]?, _ body: (Range<Int>) -> Void) throws {
    var place = start
    var lastEnd = -1
    while place <= end {
      if let firstBytes {
        while place < end, !firstBytes[Int(bytes[place])] { place += 1 }
        if place == end { return }
      }
      guard let stop = try run(0, place), stop > place || place != lastEnd else {
        if place == end { return }
        place = placeAfterFailure(place)
        continue
      }
      body(place..<stop)
      lastEnd = stop
      place = stop
    }
  }

  /// The next place where a match can begin. An expression that begins with a run has failed for every end of that run,
  /// so nothing inside the run need be tried: this keeps `\s+$` linear.
  private func placeAfterFailure(_ place: Int) -> Int {
    let (scalar, length) = UTF8Scalar.decode(bytes, place, end)
    var next = place + length
    let first = instructions[0]
    guard first.kind == .run, first.x <= 1, first.y == .max, bitmaps[Int(first.set)].contains(scalar) else {
      return next
    }
    while next < end {
      let (scalar, length) = UTF8Scalar.decode(bytes, next, end)
      if !bitmaps[Int(first.set)].contains(scalar) { break }
      next += length
    }
    return next
  }

  /// Runs from an instruction to the `accept` that belongs to it.
  /// - Returns: the place where the match ends; nil where there is none.
  private mutating func run(_ first: Int, _ place: Int) throws -> Int? {
    let base = choices.count
    var counter = first
    var place = place
    while true {
      steps -= 1
      if steps < 0 { throw TooManySteps() }
      let instruction = instructions[counter]
      var matched = true
      switch instruction.kind {
      case .accept:
        choices.removeSubrange(base...)
        return place
      case .scalar:
        if place < end {
          let (scalar, length) = UTF8Scalar.decode(bytes, place, end)
          matched = scalar == UInt32(bitPattern: instruction.x)
          place += length
        } else {
          matched = false
        }
        counter += 1
      case .set:
        if place < end {
          let (scalar, length) = UTF8Scalar.decode(bytes, place, end)
          matched = bitmaps[Int(instruction.set)].contains(scalar)
          place += length
        } else {
          matched = false
        }
        counter += 1
      case .run, .runPossessively:
        matched = advance(instruction, &place, counter)
        counter += 1
      case .split:
        if instruction.set >= 0, !startsWith(instruction.set, place) {
          counter = Int(instruction.y)
        } else {
          choices.append(Choice(instruction: instruction.y, place: place, lowest: place))
          counter = Int(instruction.x)
        }
      case .jump: counter = Int(instruction.x)
      case .note:
        let register = Int(instruction.x)
        choices.append(Choice(instruction: -1 - instruction.x, place: registers[register], lowest: 0))
        registers[register] = place
        counter += 1
      case .leaveUnlessMoved: counter = registers[Int(instruction.x)] == place ? Int(instruction.y) : counter + 1
      case .ahead:
        matched = (try run(counter + 1, place) != nil) == (instruction.y == 0)
        counter = Int(instruction.x)
      case .atomic:
        let stop = try run(counter + 1, place)
        matched = stop != nil
        place = stop ?? place
        counter = Int(instruction.x)
      case .behind:
        matched = endsWith(instruction.set, place) == (instruction.y == 0)
        counter += 1
      case .assertion:
        matched = holds(PatternNode.Assertion(rawValue: instruction.x), place)
        counter += 1
      }
      if !matched {
        guard let (other, from) = fallBack(base) else { return nil }
        (counter, place) = (other, from)
      }
    }
  }

  /// Consumes as many scalars of a set as there are and may be; notes that they may be given back.
  @inline(__always)
  private mutating func advance(_ instruction: PatternInstruction, _ place: inout Int, _ counter: Int) -> Bool {
    let bitmap = bitmaps[Int(instruction.set)]
    let most = instruction.y == .max ? Int.max : Int(instruction.y)
    let least = Int(instruction.x)
    var count = 0
    var lowest = place
    while count < most, place < end {
      let (scalar, length) = UTF8Scalar.decode(bytes, place, end)
      if !bitmap.contains(scalar) { break }
      place += length
      count += 1
      if count == least { lowest = place }
    }
    steps -= count >> 3
    if count < least { return false }
    if count > least, instruction.kind == .run {
      choices.append(Choice(instruction: Int32(counter + 1), place: place, lowest: lowest))
    }
    return true
  }

  /// The latest choice that is left, as instruction and place.
  private mutating func fallBack(_ base: Int) -> (Int, Int)? {
    while choices.count > base {
      let last = choices.count - 1
      let choice = choices[last]
      if choice.instruction < 0 {
        registers[Int(-1 - choice.instruction)] = choice.place
        choices.removeLast()
        continue
      }
      if choice.place > choice.lowest {
        // A run gives back its last scalar; at its least it is no choice any more.
        let shorter = UTF8Scalar.previous(bytes, choice.place, choice.lowest)
        if shorter > choice.lowest { choices[last].place = shorter } else { choices.removeLast() }
        return (Int(choice.instruction), shorter)
      }
      choices.removeLast()
      return (Int(choice.instruction), choice.place)
    }
    return nil
  }

  @inline(__always)
  private func startsWith(_ set: Int32, _ place: Int) -> Bool {
    place < end && bitmaps[Int(set)].contains(UTF8Scalar.decode(bytes, place, end).scalar)
  }

  private func endsWith(_ set: Int32, _ place: Int) -> Bool {
    guard place > start else { return false }
    let previous = UTF8Scalar.previous(bytes, place, start)
    return bitmaps[Int(set)].contains(UTF8Scalar.decode(bytes, previous, end).scalar)
  }

  private func holds(_ assertion: PatternNode.Assertion?, _ place: Int) -> Bool {
    let newline = UInt8(ascii: "\n")
    switch assertion {
    case .textStart: return place == start
    case .textEnd, nil: return place == end
    case .lineStart: return place == start || bytes[place - 1] == newline
    case .lineEnd: return place == end || bytes[place] == newline
    case .lastLineEnd: return place == end || place + 1 == end && bytes[place] == newline
    case .wordBoundary: return isWord(before: place) != isWord(at: place)
    case .noWordBoundary: return isWord(before: place) == isWord(at: place)
    }
  }

  private static let word = ScalarBitmap(UnicodeClasses.word)

  private func isWord(at place: Int) -> Bool {
    place < end && Self.word.contains(UTF8Scalar.decode(bytes, place, end).scalar)
  }

  private func isWord(before place: Int) -> Bool {
    place > start && isWord(at: UTF8Scalar.previous(bytes, place, start))
  }
}
