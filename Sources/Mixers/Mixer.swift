import FermataLayers
import FermataTensors

/// Where a sequence may be cut without changing anything.
public enum CutScope: String, Sendable, Codable {
  /// Anywhere.
  case causal
  /// Anywhere after a region (a prompt read in both directions, say) that must be given as one piece and sealed.
  case afterSeal
  /// Nowhere: every output depends on the whole sequence.
  case none
}

/// Whether summaries of neighbouring stretches combine.
public enum MergeLaw: Sendable, Equatable {
  /// They do, associatively. `cost` says what a summary holds.
  case associative(cost: String)
  /// They do not, and why.
  case none(reason: String)
}

/// The laws a mechanism keeps. What needs a law refuses a mechanism that does not declare it.
public struct Laws: Sendable, Equatable {
  public var cut: CutScope
  public var merge: MergeLaw

  public init(cut: CutScope, merge: MergeLaw) {
    self.cut = cut
    self.merge = merge
  }
}

/// A way of mixing a sequence: a function from a piece and a state to a piece and a state.
///
/// The cut law, within the declared scope: feeding a sequence whole, in pieces of any sizes, or token by token gives the
/// same outputs, the same final state and the same gradients, to rounding.
public protocol Mixer: Module {
  var laws: Laws { get }

  /// The state before the first token.
  func initialState(batch: Int) throws -> MixerState

  /// Outputs (batch, length, width) for a piece, moving the state on. When it throws, the state is as it was.
  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor

  /// Ends the region that had to be read as one. Only mixers of scope `afterSeal` have work to do here.
  func seal(_ state: inout MixerState) throws

  /// Outputs for a tree of drafts, and the states that accepting each of its tokens would leave.
  func branches(_ piece: Piece, state: MixerState) throws -> Branches

  /// Bytes that the state takes after so many tokens, in a compute type.
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int
}

extension Mixer {
  public func seal(_ state: inout MixerState) throws { state.isSealed = true }

  /// Any mixer that can be cut where the state stands can walk a tree: each token goes on from a copy of its parent's state.
  public func branches(_ piece: Piece, state: MixerState) throws -> Branches {
    try branchesTokenByToken(piece, state: state)
  }

  /// The walk itself: the oracle of mixers that take a tree in one step.
  package func branchesTokenByToken(_ piece: Piece, state: MixerState) throws -> Branches {
    let isCuttable = laws.cut == .causal || laws.cut == .afterSeal && state.isSealed
    guard isCuttable, let parents = piece.layout.parents, !parents.isEmpty else {
      throw TensorError(
        "branches", expected: "a mixer that can be cut here and a piece with parents",
        got: "scope \(laws.cut.rawValue), \(piece.layout.parents?.count ?? 0) parents")
    }
    var outputs: [Tensor] = []
    var states: [MixerState] = []
    var layout = piece.layout
    layout.parents = nil
    let flat = try Piece(piece.values, layout: layout, context: piece.context, contextValid: piece.contextValid)
    for (index, parent) in parents.enumerated() {
      var branch = parent < 0 ? state : states[parent]
      outputs.append(try self(flat.slice(index..<index + 1), state: &branch))
      states.append(branch)
    }
    let found = states
    return Branches(outputs: try Tensor.concatenated(outputs, axis: 1), tokens: found.count) { found[$0] }
  }
}

/// A tree of provisional tokens: nothing has happened to the state they started from. Committing is assigning one of
/// the states after its tokens to it; rolling back is dropping this value.
public struct Branches: Sendable {
  /// (batch, tokens, width)
  public var outputs: Tensor
  private let tokens: Int
  private let make: @Sendable (Int) throws -> MixerState

  /// `state` makes the state after a token when it is asked for: most of a tree is dropped.
  public init(outputs: Tensor, tokens: Int, state: @escaping @Sendable (_ token: Int) throws -> MixerState) {
    self.outputs = outputs
    self.tokens = tokens
    make = state
  }

  /// The state after a token and its ancestors.
  public func state(after token: Int) throws -> MixerState {
    try require(
      (0..<tokens).contains(token), "branches", expected: "a token in 0..<\(tokens)", got: "\(token)")
    return try make(token)
  }
}

/// A mixer that keeps the merge law.
public protocol MergingMixer: Mixer {
  /// What a piece does to any state it follows.
  func summarise(_ piece: Piece) throws -> Summary
  /// The summary of two neighbouring stretches.
  func merged(_ left: Summary, _ right: Summary) throws -> Summary
  /// The state after a summarised stretch.
  func advance(_ state: inout MixerState, by summary: Summary) throws
}

/// A mixer that models can name in their configuration.
public protocol RegisteredMixer: Mixer {
  /// Settings from a config file. `CodingKeys` must list every key, so that a mistyped one is refused.
  associatedtype Options: Codable & Sendable

  /// The name in config files.
  static var name: String { get }
  /// Family, state, cost, weakness and source, for lists and help.
  static var card: MixerCard { get }
  /// Settings that tests and documentation try, as JSON: the generic suites run over each.
  static var examples: [String] { get }
  /// Keys that `Options` understands.
  static var optionKeys: [String] { get }

  /// Fresh parameters for a width.
  init(width: Int, options: Options, random: inout RandomSource) throws
}

/// A mixer made of others, which it finds in the table that it was itself found in.
public protocol CompositeMixer: RegisteredMixer {
  /// Fresh parameters for a width.
  init(width: Int, options: Options, registry: MixerRegistry, random: inout RandomSource) throws
}

extension CompositeMixer {
  public init(width: Int, options: Options, random: inout RandomSource) throws {
    try self.init(width: width, options: options, registry: .standard, random: &random)
  }
}
