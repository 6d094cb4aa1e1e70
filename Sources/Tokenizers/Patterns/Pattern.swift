/// A regular expression ready to search text with.
///
/// Matching is by backtracking over instructions, on scalars as the bytes hold them. What the public pre-tokenizers use
/// takes a few steps a byte; an expression that takes far more on some text ends in an error, not in a wait.
struct Pattern: Sendable {
  let instructions: [PatternInstruction]
  let bitmaps: [ScalarBitmap]
  /// Bytes that a match can begin with; nil where a match may be empty.
  let firstBytes: [Bool]?
  let registers: Int
  let source: String

  /// - Throws: `TokenizerError` naming what is not understood.
  init(_ source: String) throws {
    try self.init(PatternParser.parse(source), source: source)
  }

  /// An expression that matches a text literally.
  init(literal text: String) throws {
    let nodes = text.unicodeScalars.map { PatternNode.set(ScalarSet($0.value)) }
    try self.init(.sequence(nodes), source: text)
  }

  /// An expression given as a tree; `source` names it in errors.
  init(_ node: PatternNode, source: String) throws {
    var compiler = PatternCompiler()
    try compiler.add(node)
    compiler.emit(.accept)
    instructions = compiler.instructions
    bitmaps = compiler.bitmaps
    registers = compiler.registers
    firstBytes = node.firstScalars.map(Self.firstBytes(of:))
    self.source = source
  }

  static func firstBytes(of set: ScalarSet) -> [Bool] {
    var bytes = [Bool](repeating: false, count: 256)
    for range in set.ranges {
      for value in range.lowerBound..<max(range.lowerBound, min(range.upperBound, 0x80)) { bytes[Int(value)] = true }
      // Beyond ASCII no finer: those bytes are looked at one character at a time.
      if range.upperBound > 0x80 { for byte in 0x80..<256 { bytes[byte] = true } }
    }
    return bytes
  }
}

/// One step of a program.
struct PatternInstruction: Sendable {
  enum Kind: UInt8 {
    /// The scalar `x`.
    case scalar
    /// One scalar of `set`.
    case set
    /// `x` to `y` scalars of `set`, as many as there are, given back one by one.
    case run
    /// The same, never given back.
    case runPossessively
    /// Try `x`, then `y`; where `set` is given and the next scalar is not in it, `y` at once.
    case split
    /// Go on at `x`.
    case jump
    /// Note the place in register `x`.
    case note
    /// Where the place is still the one in register `x`, go on at `y`: a loop that consumes nothing ends.
    case leaveUnlessMoved
    /// What follows, up to its `accept`, must match here (`y` = 0) or must not (1); go on at `x`.
    case ahead
    /// What follows, up to its `accept`, matches once and for all; go on at `x`.
    case atomic
    /// The scalar before must be in `set` (`y` = 0) or must not (1).
    case behind
    /// The assertion with number `x`.
    case assertion
    case accept
  }

  var kind: Kind
  var set: Int32 = -1
  var x: Int32 = 0
  var y: Int32 = 0
}

/// Turns the tree of an expression into instructions.
struct PatternCompiler {
  private var visits = 0
  private(set) var instructions: [PatternInstruction] = []
  private(set) var bitmaps: [ScalarBitmap] = []
  private(set) var registers = 0
  private var numbers: [ScalarSet: Int32] = [:]
  private static let largest = 20_000
  /// A bitmap takes some 9 KB.
  private static let mostBitmaps = 1000

  @discardableResult
  mutating func emit(_ kind: PatternInstruction.Kind, set: ScalarSet? = nil, x: Int = 0, y: Int = 0) -> Int {
    let number = set.map { bitmap($0) } ?? -1
    instructions.append(PatternInstruction(kind: kind, set: number, x: Int32(clamping: x), y: Int32(clamping: y)))
    return instructions.count - 1
  }

  private mutating func bitmap(_ set: ScalarSet) -> Int32 {
    if let known = numbers[set] { return known }
    let number = Int32(bitmaps.count)
    numbers[set] = number
    bitmaps.append(ScalarBitmap(set))
    return number
  }

  mutating func add(_ node: PatternNode) throws {
    // Nodes count too: repetitions of nothing write no instructions.
    visits += 1
    guard instructions.count < Self.largest, visits < 8 * Self.largest else {
      throw TokenizerError("a regular expression", "it is too large once its repetitions are written out")
    }
    guard bitmaps.count <= Self.mostBitmaps else {
      throw TokenizerError(
        "a regular expression", "it has more than \(Self.mostBitmaps) different classes of characters")
    }
    switch node {
    case .set(let set):
      if let scalar = set.single { emit(.scalar, x: Int(scalar)) } else { emit(.set, set: set) }
    case .sequence(let nodes): for node in nodes { try add(node) }
    case .alternatives(let nodes): try add(alternatives: nodes)
    case .repeated(let node, let least, let most, let manner): try add(node, least, most, manner)
    case .ahead(let node, let negative): try enclosed(.ahead, node, y: negative ? 1 : 0)
    case .atomic(let node): try enclosed(.atomic, node)
    case .behind(let set, let negative): emit(.behind, set: set, y: negative ? 1 : 0)
    case .assertion(let assertion): emit(.assertion, x: Int(assertion.rawValue))
    }
  }

  private mutating func add(alternatives nodes: [PatternNode]) throws {
    guard let last = nodes.last else { return }
    var jumps: [Int] = []
    for node in nodes.dropLast() {
      let split = emit(.split, set: node.firstScalars)
      instructions[split].x = Int32(instructions.count)
      try add(node)
      jumps.append(emit(.jump))
      instructions[split].y = Int32(instructions.count)
    }
    try add(last)
    for jump in jumps { instructions[jump].x = Int32(instructions.count) }
  }

  private mutating func enclosed(_ kind: PatternInstruction.Kind, _ node: PatternNode, y: Int = 0) throws {
    let start = emit(kind, y: y)
    try add(node)
    emit(.accept)
    instructions[start].x = Int32(instructions.count)
  }

  private mutating func add(_ node: PatternNode, _ least: Int, _ most: Int, _ manner: PatternNode.Manner) throws {
    if let set = node.asSet, manner != .lazy {
      emit(manner == .greedy ? .run : .runPossessively, set: set, x: least, y: most)
      return
    }
    if manner == .possessive {
      return try enclosed(.atomic, .repeated(node, least: least, most: most, .greedy))
    }
    for _ in 0..<least { try add(node) }
    if most == PatternNode.unbounded {
      try loop(node, isLazy: manner == .lazy)
    } else {
      try optional(node, most - least, isLazy: manner == .lazy)
    }
  }

  private mutating func branch(_ node: PatternNode, isLazy: Bool, _ body: (inout PatternCompiler) throws -> Void) throws
  {
    let split = emit(.split, set: isLazy ? nil : node.firstScalars)
    let start = Int32(instructions.count)
    try body(&self)
    let end = Int32(instructions.count)
    (instructions[split].x, instructions[split].y) = isLazy ? (end, start) : (start, end)
  }

  private mutating func loop(_ node: PatternNode, isLazy: Bool) throws {
    let start = instructions.count
    try branch(node, isLazy: isLazy) { compiler in
      let register = compiler.registers
      if node.canBeEmpty {
        compiler.registers += 1
        compiler.emit(.note, x: register)
      }
      try compiler.add(node)
      if node.canBeEmpty {
        compiler.emit(.leaveUnlessMoved, x: register, y: compiler.instructions.count + 2)
      }
      compiler.emit(.jump, x: start)
    }
  }

  /// Up to `count` times, each only after the one before.
  private mutating func optional(_ node: PatternNode, _ count: Int, isLazy: Bool) throws {
    var splits: [Int] = []
    for _ in 0..<count {
      let split = emit(.split, set: isLazy ? nil : node.firstScalars)
      instructions[split].x = Int32(instructions.count)
      splits.append(split)
      try add(node)
    }
    for split in splits {
      instructions[split].y = Int32(instructions.count)
      if isLazy { (instructions[split].x, instructions[split].y) = (instructions[split].y, instructions[split].x) }
    }
  }
}
