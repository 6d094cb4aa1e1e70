import FermataLayers
import FermataTensors

/// What a stretch does to a recurrent state: a decay and what it leaves of an empty state.
struct RecurrentStretch: Sendable {
  /// In the mixer's own terms: what adds up over tokens and fixes the decay (the sum of its logarithms, say).
  var decay: Tensor
  /// Shaped as the state.
  var increment: Tensor
}

/// A linear recurrence whose inputs go through a short convolution first, as Mamba's and Mamba-2's do. States are named
/// "state" and "convolution" (the convolution's tail).
///
/// The merge law survives the convolution: a summary also holds the stretch's first and last K − 1 inputs of the convolution,
/// its halo. What the first ones do to the state is found when it is known what stood before them.
protocol ConvolvedRecurrence: MergingMixer {
  static var name: String { get }
  var convolution: ShortConvolution { get }

  /// What the recurrence needs of a piece's tokens: (batch, length, features), the convolution's inputs first.
  func stretchInputs(_ piece: Piece) throws -> Tensor
  /// The stretch of no tokens.
  func emptyStretch(batch: Int) throws -> RecurrentStretch
  /// The stretch with tokens (batch, tokens, features) added to its end; `history` (batch, K − 1, channels) f32 is what the
  /// convolution was given before them.
  func appending(_ tokens: Tensor, after history: Tensor, to stretch: RecurrentStretch) throws -> RecurrentStretch
  /// The factor that a stretch's decay multiplies states with.
  func factor(ofDecay decay: Tensor) throws -> Tensor
}

extension ConvolvedRecurrence {
  /// K − 1
  private var halo: Int { convolution.width - 1 }

  public func summarise(_ piece: Piece) throws -> Summary {
    try require(
      piece.layout.resets == nil && piece.layout.valid == nil, "summarise",
      expected: "a stretch without document starts and padding", got: "resets or valid",
      advice: "summarise each document's valid tokens by themselves")
    let inputs = try stretchInputs(piece.sequence(for: Self.name))
    let held = min(halo, piece.length)
    let head = try inputs.slice(0..<held, axis: 1)
    var stretch = try emptyStretch(batch: piece.batch)
    if piece.length > halo {
      stretch = try appending(inputs.slice(halo..<piece.length, axis: 1), after: history(head), to: stretch)
    }
    return summary(
      piece.length, stretch, head: head, tail: try inputs.slice(piece.length - held..<piece.length, axis: 1))
  }

  /// (λ₁ + λ₂, e^{λ₂} U₁ + U₂), with what the right stretch's first inputs do put in between.
  public func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    let between = try Tensor.concatenated([left.tensor("tail"), right.tensor("head")], axis: 1)
    var stretch = try self.stretch(left)
    if between.shape[1] > halo {
      let (before, tokens) = (try between.slice(0..<halo, axis: 1), halo..<between.shape[1])
      stretch = try appending(between.slice(tokens, axis: 1), after: history(before), to: stretch)
    }
    stretch = try joined(stretch, self.stretch(right))
    let head = try Tensor.concatenated([left.tensor("head"), right.tensor("head")], axis: 1)
    let tail = try Tensor.concatenated([left.tensor("tail"), right.tensor("tail")], axis: 1)
    return summary(
      left.length + right.length, stretch, head: try head.slice(0..<min(halo, head.shape[1]), axis: 1),
      tail: try tail.slice(max(0, tail.shape[1] - halo)..<tail.shape[1], axis: 1))
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    let position = try state.position(after: summary.length)
    let history = try state.tensor("convolution")
    var stretch = try emptyStretch(batch: history.shape[0])
    stretch.increment = try state.tensor("state")
    stretch = try appending(summary.tensor("head"), after: history, to: stretch)
    let inputs = try Tensor.concatenated([history, self.history(summary.tensor("tail"))], axis: 1)
    let next = try joined(stretch, self.stretch(summary)).increment
    state["convolution"] = try inputs.slice(inputs.shape[1] - halo..<inputs.shape[1], axis: 1).contiguous()
    state["state"] = next
    state.position = position
  }

  /// What the convolution was given, of tokens (batch, tokens, features).
  private func history(_ tokens: Tensor) throws -> Tensor {
    try tokens.slice(0..<convolution.channels, axis: 2).cast(to: .float32)
  }

  private func joined(_ left: RecurrentStretch, _ right: RecurrentStretch) throws -> RecurrentStretch {
    RecurrentStretch(
      decay: try left.decay + right.decay,
      increment: try factor(ofDecay: right.decay) * left.increment + right.increment)
  }

  private func stretch(_ summary: Summary) throws -> RecurrentStretch {
    RecurrentStretch(decay: try summary.tensor("decay"), increment: try summary.tensor("increment"))
  }

  private func summary(_ length: Int, _ stretch: RecurrentStretch, head: Tensor, tail: Tensor) -> Summary {
    Summary(
      length: length, tensors: ["decay": stretch.decay, "increment": stretch.increment, "head": head, "tail": tail])
  }

  /// Bytes of the convolution's tail and of a state of so many f32 numbers.
  func recurrentStateBytes(batch: Int, numbers: Int) -> Int {
    convolution.tailBytes(batch: batch) + 4 * batch * numbers
  }
}

/// Biases whose softplus is spread evenly on a logarithmic scale between two step sizes, as Mamba begins.
func initialStepBias(_ count: Int, from least: Float = 0.001, to most: Float = 0.1, random: inout RandomSource) throws
  -> Tensor
{
  let (low, high) = (try Tensor(least).log().item(), try Tensor(most).log().item())
  let steps = try random.uniform([count], low, high).exp()
  // The inverse of softplus: Δ + log(1 − e^{−Δ}).
  return try steps + (1 - (-steps).exp()).log()
}
