import FermataLayers
import FermataTensors

/// What `LSTM`, `GRU` and `SLSTM` share: weights of the gates, block-diagonal recurrent weights, and states. It gives
/// hidden states; what follows them is the mixer's own.
public struct RecurrentLayer: Module {
  /// W (gates · width, width).
  public var inputWeight: Tensor
  /// R (gates · width, width / heads).
  public var recurrentWeight: Tensor
  /// b (gates · width).
  public var bias: Tensor
  /// A bias of the recurrent part, for cells that tell the two apart (gates · width).
  public var recurrentBias: Tensor?
  public let cell: RecurrentCell
  public let width: Int
  public let heads: Int
  private let name: String

  /// Uniform weights within 1 / √inputs, as PyTorch starts; biases are zero.
  init(name: String, _ cell: RecurrentCell, width: Int, heads: Int, random: inout RandomSource) throws {
    guard heads > 0, width % heads == 0 else {
      throw ConfigurationError("mixer '\(name)'", "num_heads (\(heads)) must divide the width (\(width))")
    }
    (self.name, self.cell, self.width, self.heads) = (name, cell, width, heads)
    let (bound, recurrentBound) = (1 / Float(width).squareRoot(), 1 / Float(width / heads).squareRoot())
    inputWeight = try random.uniform([cell.gates * width, width], -bound, bound)
    recurrentWeight = try random.uniform([cell.gates * width, width / heads], -recurrentBound, recurrentBound)
    bias = try Tensor.zeros([cell.gates * width])
    recurrentBias = cell.readsSum ? nil : try Tensor.zeros([cell.gates * width])
  }

  /// Names as `torch.nn.LSTM` and `torch.nn.GRU` have them, without the layer's number; one bias where the two would be added.
  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("weight_ih", &inputWeight)
    try visitor.parameter("weight_hh", &recurrentWeight)
    try visitor.parameter(recurrentBias == nil ? "bias" : "bias_ih", &bias)
    try visitor.parameter("bias_hh", &recurrentBias)
  }

  static let laws = Laws(
    cut: .causal, merge: .none(reason: "a step is not linear in the state, so a stretch has no summary"))

  func stateBytes(batch: Int) -> Int { 4 * batch * width * cell.states.count }

  func initialState(batch: Int) throws -> MixerState {
    let states = try cell.emptyStates(batch: batch, width: width)
    return MixerState(tensors: Dictionary(zip(cell.states, states)) { first, _ in first })
  }

  /// Hidden states (batch, length, width) of a piece, and the state after it.
  func callAsFunction(_ piece: Piece, state: MixerState) throws -> (hidden: Tensor, state: MixerState) {
    let piece = try piece.sequence(for: name)
    var next = state
    next.position = try state.position(after: piece.length)
    let before = try cell.states.map { try state.tensor($0) }
    for tensor in before {
      try require(
        tensor.shape == [piece.batch, width] && tensor.dtype == .float32, name,
        expected: "a state of F32 [\(piece.batch), \(width)]", got: "\(tensor)",
        advice: "the state was made with another model or batch")
    }
    let result = try recurrentScan(
      cell, projections: linear(piece.values, weight: inputWeight, bias: bias), recurrent: recurrentWeight,
      bias: recurrentBias, states: before, resets: piece.layout.resets, valid: piece.layout.valid)
    for (name, tensor) in zip(cell.states, result.states) { next[name] = tensor }
    return (result.output, next)
  }
}
