import FermataLayers
import FermataTensors

/// H3: a shift and a diagonal state space with products between them, as attention has them between queries, keys and values
/// (Fu et al. 2023).
///
///     q, k, v = W x + b;   k̃ = shift(k);   S = diagonal(k̃ᵀ v) a head;   o_t = q_t S_t;   y = W_o o + b_o
///
/// The shift keeps the last shift_size keys and reads them with learned weights: a convolution of that width. The diagonal layer
/// is S4D's system, one for every head, applied to each of the head_dim² products of a head. Feature i · heads + h of q, k, v
/// and o is feature i of head h.
///
/// State: the last shift_size − 1 keys and the modes of every product, f32, whatever the length:
/// 4 · batch · width · (state_size · head_dim + shift_size − 1) bytes.
/// Cost per token: 6 · width · head_dim · state_size + 2 · width · shift_size beside the projections.
/// Merge: a power of ā, an increment, and the keys and values within reach of the shift at either end.
/// Bad at: recall of many things at once with head_dim 1, where a head holds one product of a key and a value.
public struct H3: RegisteredMixer, MergingMixer {
  public struct Options: Codable, Sendable {
    public var headWidth: Int?
    public var stateSize: Int?
    public var shiftSize: Int?
    public var start: DiagonalSystem.Start?
    public var discretisation: Discretisation?
    public var leastStep: Float?
    public var greatestStep: Float?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case headWidth = "head_dim"
      case stateSize = "state_size"
      case shiftSize = "shift_size"
      case start = "init"
      case discretisation = "discretization"
      case leastStep = "dt_min"
      case greatestStep = "dt_max"
    }
  }

  public static let name = "h3"
  public static let card = MixerCard(
    family: .stateSpace, summary: "shift and diagonal state spaces with products between them (H3)",
    state: "4 · width · (state_size · head_dim + shift_size - 1)",
    cost: "6 · width · head_dim · state_size + 2 · width · shift_size",
    weakness: "recall of many things at once: a head holds head_dim² decaying products of a key and a value",
    source: "Fu, Dao, Saab, Thomas, Rudra & Ré 2023")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    #"{"state_size": 6, "shift_size": 5}"#,
    #"{"head_dim": 2, "state_size": 4, "shift_size": 64, "discretization": "zoh"}"#,
  ]

  /// Queries, keys and values in one product.
  public var input: Linear
  public var shift: ShortConvolution
  public var system: DiagonalSystem
  public var output: Linear
  public let headWidth: Int
  private let remembered = Remembered<Spread>()

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    headWidth = options.headWidth ?? 1
    guard headWidth > 0, width % headWidth == 0 else {
      throw ConfigurationError("mixer '\(Self.name)'", "head_dim (\(headWidth)) must divide the width (\(width))")
    }
    let modes = try DiagonalSystem.modes(options.stateSize, mixer: Self.name)
    let shiftSize = options.shiftSize ?? min(2 * modes, 64)
    guard (1...64).contains(shiftSize) else {
      throw ConfigurationError("mixer '\(Self.name)'", "shift_size must be in 1...64, got \(shiftSize)")
    }
    input = try Linear(width, 3 * width, bias: true, random: &random)
    shift = try ShortConvolution(
      channels: width, width: shiftSize, bias: false, appliesSiLU: false, random: &random)
    system = try DiagonalSystem(
      channels: width / headWidth, modes: modes, start: options.start ?? .lin,
      discretisation: options.discretisation ?? .bilinear,
      steps: StepRange(options.leastStep, options.greatestStep, mixer: Self.name), random: &random)
    output = try Linear(width, width, bias: true, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("in_proj", &input)
    try visitor.module("shift", &shift)
    try visitor.module("kernel", &system)
    try visitor.module("o_proj", &output)
  }

  private var width: Int { shift.channels }
  private var heads: Int { system.channels }
  private var products: Int { heads * headWidth * headWidth }

  public var laws: Laws {
    Laws(
      cut: .causal,
      merge: .associative(cost: "a power of the decay, an increment, and shift_size - 1 keys and values"))
  }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    8 * batch * system.modes * products + shift.tailBytes(batch: batch)
  }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: [
      "keys": try shift.initialTail(batch: batch),
      "state": try Tensor.zeros([batch, 2, system.modes, products]),
    ])
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let piece = try piece.sequence(for: Self.name)
    let position = try state.position(after: piece.length)
    let parts = try input(piece.values).split(sizes: [width, width, width], axis: 2)
    let (mixed, keys, final) = try scan(
      keys: parts[1], values: parts[2], tail: state.tensor("keys"), state: state.tensor("state"), layout: piece.layout)
    let heads = try mixed.reshaped([piece.batch, piece.length, headWidth, headWidth, self.heads])
    let read = try perHead(parts[0], first: true) * heads
    let summed = headWidth == 1 ? read : try read.sum(axis: 2)
    let y = try output(summed.reshaped([piece.batch, piece.length, width]))
    state["keys"] = keys
    state["state"] = final
    state.position = position
    return y
  }

  /// (batch, length, width) as (batch, length, head_dim, 1, heads), or with the two axes in the middle exchanged. Heads come
  /// last so that products run along memory.
  private func perHead(_ x: Tensor, first: Bool) throws -> Tensor {
    try x.reshaped([x.shape[0], x.shape[1], first ? headWidth : 1, first ? 1 : headWidth, heads])
  }

  /// ā, 2 C b̄ and D for every product of a head.
  private struct Spread: Sendable {
    var decay: Tensor
    var readout: Tensor
    var skip: Tensor
  }

  private func spread() throws -> Spread {
    let (decay, readout) = try system.discretised()
    let square = headWidth * headWidth
    func spread(_ x: Tensor) throws -> Tensor {
      let outer = Array(x.shape.dropLast())
      return try x.expanded(at: -2).broadcast(to: outer + [square, heads]).reshaped(outer + [products])
    }
    return try remembered([decay, readout, system.skip]) {
      Spread(decay: try spread(decay), readout: try spread(readout), skip: try spread(system.skip))
    }
  }

  /// Shift, products and diagonal system; returns their outputs (batch, length, products) and both states.
  private func scan(keys: Tensor, values: Tensor, tail: Tensor, state: Tensor, layout: Layout) throws -> (
    output: Tensor, keys: Tensor, state: Tensor
  ) {
    let shifted = try shift(keys, tail: tail, resets: layout.resets, valid: layout.valid)
    let outer = try perHead(shifted.output, first: true) * perHead(values, first: false)
    let spread = try spread()
    let mixed = try diagonalScan(
      outer.reshaped([values.shape[0], values.shape[1], products]), decay: spread.decay, readout: spread.readout,
      skip: spread.skip, state: state, resets: layout.resets, valid: layout.valid)
    return (mixed.output, shifted.tail, mixed.state)
  }
}

// MARK: Merge law

extension H3 {
  /// What the stretch leaves of an empty state, the power of ā, its last keys, and its first values, which the keys before it
  /// will meet.
  public func summarise(_ piece: Piece) throws -> Summary {
    try require(
      piece.layout.resets == nil && piece.layout.valid == nil, "summarise",
      expected: "a stretch of one document without padding", got: "document starts or padding",
      advice: "summarise each document by itself")
    let parts = try input(piece.values).split(sizes: [width, width, width], axis: 2)
    let empty = try initialState(batch: piece.batch)
    let (_, keys, state) = try scan(
      keys: parts[1], values: parts[2], tail: empty.tensor("keys"), state: empty.tensor("state"), layout: piece.layout)
    let first = try parts[2].slice(0..<min(reach, piece.length), axis: 1).contiguous()
    return Summary(
      length: piece.length,
      tensors: [
        "power": try power(piece.length, batch: piece.batch), "increment": state, "keys": keys, "values": first,
      ])
  }

  /// Tokens before a stretch whose keys the shift still reads inside it.
  private var reach: Int { shift.width - 1 }

  private func power(_ count: Int, batch: Int) throws -> Tensor {
    try complexPower(spread().decay, layout: Layout(batch: batch, length: count))
  }

  /// Two summaries are one after the state of the first, its keys included, has met the second.
  public func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    let (keys, state) = try after(
      right, keys: left.tensor("keys"), state: left.tensor("increment"))
    let values = try Tensor.concatenated([left.tensor("values"), right.tensor("values")], axis: 1)
    let length = left.length + right.length
    return Summary(
      length: length,
      tensors: [
        "power": try complexProduct(right.tensor("power"), left.tensor("power")), "increment": state, "keys": keys,
        "values": try values.slice(0..<min(reach, values.shape[1]), axis: 1).contiguous(),
      ])
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    let position = try state.position(after: summary.length)
    let (keys, final) = try after(summary, keys: state.tensor("keys"), state: state.tensor("state"))
    state["keys"] = keys
    state["state"] = final
    state.position = position
  }

  /// Keys and state after a stretch. Over the stretch's first tokens the keys before it meet its values; what that leaves decays
  /// over the rest.
  private func after(_ summary: Summary, keys: Tensor, state: Tensor) throws -> (keys: Tensor, state: Tensor) {
    let (values, batch) = (try summary.tensor("values"), keys.shape[0])
    let met = min(values.shape[1], summary.length)
    var final = try complexProduct(summary.tensor("power"), state) + summary.tensor("increment")
    if met > 0 {
      let (_, _, crossed) = try scan(
        keys: Tensor.zeros(values.shape, values.dtype), values: values, tail: keys, state: Tensor.zeros(state.shape),
        layout: Layout(batch: batch, length: met))
      final = try final + complexProduct(power(summary.length - met, batch: batch), crossed)
    }
    // A stretch shorter than the shift's reach leaves some of the keys before it within reach.
    let kept = max(0, reach - summary.length)
    let older = try keys.slice(reach - kept..<reach, axis: 1)
    let newer = try summary.tensor("keys").slice(kept..<reach, axis: 1)
    return (try Tensor.concatenated([older, newer], axis: 1), final)
  }
}
