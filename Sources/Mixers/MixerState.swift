import FermataTensors

/// What a mixer remembers: a position and named tensors.
///
/// A state is a value. Copying it is a fork or a snapshot; keeping the copy and dropping the original is a roll-back that
/// leaves no trace; memory is shared until one of them moves on. Saving, loading, detaching, tracking and the gradients
/// of states are the same few lines for every mechanism because a state is nothing but its tensors.
public struct MixerState: Sendable {
  /// Tokens consumed so far: the absolute position of the next one.
  public var position: Int
  /// Whether the region that must be read as a whole has ended (mixers of scope `afterSeal`).
  public var isSealed: Bool
  public private(set) var tensors: [String: Tensor]

  public init(position: Int = 0, tensors: [String: Tensor] = [:], isSealed: Bool = false) {
    self.position = position
    self.tensors = tensors
    self.isSealed = isSealed
  }

  /// Positions stay below this, far from where sums of them would overflow.
  package static let largestPosition = 1 << 60

  /// The position once `count` more tokens are consumed.
  /// - Throws: `TensorError` when this or the next position is none that a sequence can reach.
  package func position(after count: Int) throws -> Int {
    let range = 0...Self.largestPosition
    try require(
      range.contains(position) && range.contains(count) && position <= Self.largestPosition - count, "state",
      expected: "a position in 0...2^60", got: "\(position) and \(count) tokens more",
      advice: "the state is damaged")
    return position + count
  }

  public subscript(_ name: String) -> Tensor? {
    get { tensors[name] }
    set { tensors[name] = newValue }
  }

  /// A tensor that must be there.
  public func tensor(_ name: String) throws -> Tensor {
    guard let tensor = tensors[name] else {
      throw TensorError(
        "state", expected: "a tensor '\(name)'", got: "\(tensors.keys.sorted())",
        advice: "the state belongs to another mixer or is damaged")
    }
    return tensor
  }

  /// Names in a fixed order.
  public var names: [String] { tensors.keys.sorted() }
  /// Bytes of all tensors.
  public var byteCount: Int { tensors.values.reduce(0) { $0 + $1.byteCount } }

  /// The same state without its history: gradients stop here. The only place where training cuts them, and it is explicit.
  public var detached: MixerState { mapping { $0.detached } }
  /// The same state as leaves of a new graph, so that a piece's backward can ask for the gradient of its initial state.
  public var tracked: MixerState { mapping { $0.dtype.isFloatingPoint ? $0.tracked() : $0 } }

  func mapping(_ body: (Tensor) -> Tensor) -> MixerState {
    MixerState(position: position, tensors: tensors.mapValues(body), isSealed: isSealed)
  }

  /// The state's copy that shares no memory and has none to spare, for saving and long keeping.
  public func compacted() throws -> MixerState {
    MixerState(position: position, tensors: try tensors.mapValues { try $0.compacted() }, isSealed: isSealed)
  }
}

/// What a stretch of sequence does to a layer's state, apart from what came before: the object of the merge law.
/// Not a state but a transition and an increment, by name.
public struct Summary: Sendable {
  /// Tokens summarised.
  public var length: Int
  public var tensors: [String: Tensor]

  public init(length: Int, tensors: [String: Tensor]) {
    self.length = length
    self.tensors = tensors
  }

  public func tensor(_ name: String) throws -> Tensor {
    guard let tensor = tensors[name] else {
      throw TensorError("summary", expected: "a tensor '\(name)'", got: "\(tensors.keys.sorted())")
    }
    return tensor
  }
}
