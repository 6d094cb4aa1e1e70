/// The kinds of mechanism, as lists group them.
public enum MixerFamily: String, Sendable, Codable, CaseIterable {
  case attention
  case linearAttention = "linear attention"
  case stateSpace = "state space"
  case recurrence
  case convolution
  case memory
}

/// What a list or a help page says of a mixer that is not in its types.
public struct MixerCard: Sendable {
  public var family: MixerFamily
  /// One line for lists.
  public var summary: String
  /// Bytes of the state of one sequence, as a formula ("4 · heads · keyWidth · valueWidth").
  public var state: String
  /// Work per token beside the projections, as a formula.
  public var cost: String
  /// What it is bad at, in a sentence.
  public var weakness: String
  /// Authors and year.
  public var source: String

  public init(
    family: MixerFamily, summary: String, state: String, cost: String, weakness: String, source: String
  ) {
    self.family = family
    self.summary = summary
    self.state = state
    self.cost = cost
    self.weakness = weakness
    self.source = source
  }
}
