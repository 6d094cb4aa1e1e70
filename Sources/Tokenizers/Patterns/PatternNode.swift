/// A regular expression as a tree.
indirect enum PatternNode {
  /// One scalar of a set.
  case set(ScalarSet)
  case sequence([PatternNode])
  case alternatives([PatternNode])
  case repeated(PatternNode, least: Int, most: Int, Manner)
  /// What follows must match, or must not; nothing is consumed.
  case ahead(PatternNode, negative: Bool)
  /// The scalar before must be in the set, or must not (the start of the text is no scalar).
  case behind(ScalarSet, negative: Bool)
  /// Once matched, never given back.
  case atomic(PatternNode)
  case assertion(Assertion)

  enum Manner { case greedy, lazy, possessive }

  enum Assertion: Int32 {
    case lineStart, lineEnd, textStart, textEnd, lastLineEnd, wordBoundary, noWordBoundary
  }

  /// More repetitions than this count as any number.
  static let unbounded = Int.max

  /// The set, where this is no more than one scalar of a set.
  var asSet: ScalarSet? {
    switch self {
    case .set(let set): set
    case .sequence(let nodes) where nodes.count == 1: nodes[0].asSet
    case .alternatives(let nodes): Self.union(nodes.lazy.map(\.asSet))
    default: nil
    }
  }

  /// The union of sets; nil where one of them is.
  private static func union(_ sets: some Sequence<ScalarSet?>) -> ScalarSet? {
    var union = ScalarSetUnion()
    for set in sets {
      guard let set else { return nil }
      union.add(set)
    }
    return union.set
  }

  /// Whether it can match without consuming anything.
  var canBeEmpty: Bool {
    switch self {
    case .set: false
    case .sequence(let nodes): nodes.allSatisfy(\.canBeEmpty)
    case .alternatives(let nodes): nodes.contains(where: \.canBeEmpty)
    case .repeated(let node, let least, _, _): least == 0 || node.canBeEmpty
    case .atomic(let node): node.canBeEmpty
    case .ahead, .behind, .assertion: true
    }
  }

  /// The scalars a match can begin with; nil where it may consume nothing.
  var firstScalars: ScalarSet? {
    switch self {
    case .set(let set): return set
    case .sequence(let nodes):
      var first = ScalarSet()
      for node in nodes {
        if let own = node.firstScalars { return first.union(own) }
        guard let own = node.firstIfAny else { return nil }
        first = first.union(own)
      }
      return nil
    case .alternatives(let nodes):
      return Self.union(nodes.lazy.map(\.firstScalars))
    case .repeated(let node, let least, _, _): return least > 0 ? node.firstScalars : nil
    case .atomic(let node): return node.firstScalars
    case .ahead, .behind, .assertion: return nil
    }
  }

  /// The scalars a match that consumes something can begin with, where that is easily known; looks and assertions consume
  /// nothing.
  private var firstIfAny: ScalarSet? {
    switch self {
    case .repeated(let node, _, _, _): node.firstScalars ?? node.firstIfAny
    case .ahead, .behind, .assertion: ScalarSet()
    default: nil
    }
  }
}

extension PatternNode.Assertion: Sendable {}
