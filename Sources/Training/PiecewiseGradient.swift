import FermataLayers
import FermataMixers
import FermataModels
import FermataTensors

/// Tokens of one piece with what they should predict.
public struct TokenPiece: Sendable {
  /// I32 (batch, length)
  public var tokens: Tensor
  /// I32 (batch, length); negative: no target.
  public var targets: Tensor
  public var layout: Layout

  public init(tokens: Tensor, targets: Tensor, layout: Layout) {
    self.tokens = tokens
    self.targets = targets
    self.layout = layout
  }
}

/// The loss of a sequence of pieces, its gradient by parameter, and the state after it.
public struct LossGradient: Sendable {
  /// Σ loss over targets, in nats.
  public var loss: Double
  public var gradients: [String: Tensor]
  public var state: ModelState
}

/// Gradients of scale · Σ loss over pieces that follow each other, exact across all of them, while only one piece's activations
/// exist at a time: the cut law at work.
///
/// Forwards once to save the state before each piece; then, last piece first, each is run again from its saved state, and its
/// backward takes the gradient of its loss together with that of its final state, and gives that of its initial state
/// (which is the final state of the piece before). With more than `statesKept` pieces, states are saved for groups
/// of pieces and found again group by group, so that memory grows with the square root of the length at most.
public struct PiecewiseGradient {
  /// Most states held at one level before pieces are grouped.
  static let statesKept = 12

  private let model: LanguageModel
  private let tracked: LanguageModel
  private let scale: Float
  private var loss = 0.0
  private var sums: [String: Tensor] = [:]

  /// The exact gradient of pieces that start from a state (whose own history is not followed).
  public static func exact(
    _ model: LanguageModel, _ pieces: [TokenPiece], state: ModelState, scale: Float
  ) throws -> LossGradient {
    try require(
      model.cut == .causal, "exact gradients over pieces", expected: "a model that may be cut anywhere",
      got: "scope '\(model.cut.rawValue)'")
    var run = PiecewiseGradient(model: model, tracked: try model.tracked(), scale: scale)
    var final: ModelState?
    _ = try run.backward(pieces[...], from: state.detached, seeds: nil, final: &final)
    return LossGradient(loss: run.loss, gradients: run.sums, state: final ?? state)
  }

  /// The gradient of one piece alone: the state that comes in is a constant.
  public static func truncated(
    _ model: LanguageModel, _ piece: TokenPiece, state: ModelState, scale: Float
  ) throws -> LossGradient {
    var final: ModelState?
    var run = PiecewiseGradient(model: model, tracked: try model.tracked(), scale: scale)
    _ = try run.backwardPiece(piece, from: state.detached, isTracked: false, seeds: nil, final: &final)
    return LossGradient(loss: run.loss, gradients: run.sums, state: final ?? state)
  }

  private init(model: LanguageModel, tracked: LanguageModel, scale: Float) {
    self.model = model
    self.tracked = tracked
    self.scale = scale
  }

  /// Gradients of a state's tensors, by layer and name.
  private typealias StateGradient = [[String: Tensor]]

  private mutating func backward(
    _ pieces: ArraySlice<TokenPiece>, from initial: ModelState, seeds: StateGradient?, final: inout ModelState?
  ) throws -> StateGradient? {
    if pieces.count == 1, let piece = pieces.first {
      return try backwardPiece(piece, from: initial, isTracked: true, seeds: seeds, final: &final)
    }
    let groups = Self.groups(pieces)
    var states = [initial]
    for group in groups.dropLast() {
      var state = states[states.count - 1]
      for piece in group { _ = try model.hidden(piece.tokens, layout: piece.layout, state: &state) }
      states.append(try state.compacted())
    }
    var gradient = seeds
    for group in groups.reversed() {
      guard let state = states.popLast() else { break }
      gradient = try backward(group, from: state, seeds: gradient, final: &final)
    }
    return gradient
  }

  /// Single pieces when there are few; otherwise about √n groups.
  private static func groups(_ pieces: ArraySlice<TokenPiece>) -> [ArraySlice<TokenPiece>] {
    var size = 1
    if pieces.count > statesKept {
      while size * size < pieces.count { size += 1 }
    }
    return stride(from: pieces.startIndex, to: pieces.endIndex, by: size).map {
      pieces[$0..<min($0 + size, pieces.endIndex)]
    }
  }

  private mutating func backwardPiece(
    _ piece: TokenPiece, from initial: ModelState, isTracked: Bool, seeds: StateGradient?, final: inout ModelState?
  ) throws -> StateGradient? {
    let start = isTracked ? initial.tracked : initial
    var state = start
    let result = try tracked.loss(
      piece.tokens, targets: piece.targets, layout: piece.layout, state: &state, scale: scale)
    loss += Double(try result.losses.sum().item())
    var outputs: [(output: Tensor, seed: Tensor?)] = [(result.total, nil)]
    for (layer, seeds) in (seeds ?? []).enumerated() {
      for name in seeds.keys.sorted() {
        if let output = state.layers[layer][name] { outputs.append((output, seeds[name])) }
      }
    }
    let found = try gradients(of: outputs)
    // The first piece to come here is the last one of the sequence.
    if final == nil { final = state.detached }
    for (name, leaf) in try tracked.parameters() {
      guard let gradient = found[leaf] else { continue }
      sums[name] = try sums[name].map { try $0 + gradient } ?? gradient
    }
    guard isTracked else { return nil }
    return start.layers.map { layer in
      layer.names.reduce(into: [:]) { result, name in result[name] = layer[name].flatMap { found[$0] } }
    }
  }
}
