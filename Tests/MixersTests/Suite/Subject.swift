import FermataMixers
import FermataTensors
import FermataTestSupport

/// A mixer under test and what the suites must know to feed it.
struct Subject: Sendable {
  /// What a mixer understands of a layout. What it does not it must refuse.
  struct Features: OptionSet, Sendable {
    let rawValue: Int
    static let packing = Features(rawValue: 1)
    static let padding = Features(rawValue: 2)
    static let all: Features = [.packing, .padding]
  }

  var name: String
  var mixer: any Mixer
  var width: Int
  var features = Features.all
  /// Tokens of the context that pieces carry; 0: none.
  var contextLength = 0
  /// Tokens of the region that is given and sealed before everything else; 0: none.
  var regionLength = 0
  var batch = 3

  /// Random values (batch, length, width).
  func values(_ length: Int, _ random: inout TestRandom, _ dtype: DType = .float32, batch: Int? = nil) throws -> Tensor
  {
    try random.tensor([batch ?? self.batch, length, width], dtype)
  }

  func context(_ random: inout TestRandom, _ dtype: DType = .float32, batch: Int? = nil) throws -> Tensor? {
    contextLength == 0 ? nil : try random.tensor([batch ?? self.batch, contextLength, width], dtype)
  }

  func piece(_ length: Int, _ random: inout TestRandom, _ dtype: DType = .float32, batch: Int? = nil) throws -> Piece {
    try Piece(values(length, &random, dtype, batch: batch), context: context(&random, dtype, batch: batch))
  }

  /// A state that has seen a few tokens (and its region), without history.
  func start(_ length: Int, _ random: inout TestRandom, _ dtype: DType = .float32, batch: Int? = nil) throws
    -> MixerState
  {
    var state = try mixer.initialState(batch: batch ?? self.batch)
    if regionLength > 0 {
      _ = try mixer(piece(regionLength, &random, dtype, batch: batch), state: &state)
      try mixer.seal(&state)
    }
    if length > 0 { _ = try mixer(piece(length, &random, dtype, batch: batch), state: &state) }
    return state.detached
  }

  /// Outputs of a piece fed in parts of these sizes.
  func outputs(_ piece: Piece, cuts: [Int], state: inout MixerState) throws -> Tensor {
    let parts = try ranges(cuts, of: piece.length).map { try mixer(piece.slice($0), state: &state) }
    return try Tensor.concatenated(parts, axis: 1)
  }

  func outputs(_ piece: Piece, state: MixerState) throws -> Tensor {
    var state = state
    return try mixer(piece, state: &state)
  }
}

extension Subject {
  /// The mixer bound to the choices it makes for a piece: neither differences nor
  /// rounding take it across a jump then.
  func withChoices(for piece: Piece) throws -> Subject {
    guard let choosing = mixer as? any ChoosingMixer else { return self }
    var bound = self
    bound.mixer = choosing.choosing(try choosing.choices(piece))
    return bound
  }
}

/// Consecutive ranges of these sizes; what is left over is one more.
func ranges(_ sizes: [Int], of length: Int) -> [Range<Int>] {
  var start = 0
  var result: [Range<Int>] = []
  for size in sizes where start < length {
    result.append(start..<min(length, start + size))
    start += size
  }
  if start < length { result.append(start..<length) }
  return result
}

/// Ways to cut a length: at every token, in the sizes where tiles end, and at random.
func cuttings(_ length: Int, _ random: inout TestRandom) -> [[Int]] {
  var drawn: [Int] = []
  while drawn.reduce(0, +) < length { drawn.append(random.int(1...max(1, length / 3))) }
  let tiles = [2, 63, 64, 65].filter { $0 < length }.map { Array(repeating: $0, count: length / $0) }
  return [Array(repeating: 1, count: length), drawn] + tiles
}

/// The laws' tolerances, in one place: relative root mean square.
enum LawTolerance {
  static func outputs(_ dtype: DType) -> Tolerance {
    dtype == .bfloat16 ? Tolerance(ratio: 3e-2, floor: 1e-4) : Tolerance(ratio: 1e-5, floor: 1e-6)
  }
  static func state(_ dtype: DType) -> Tolerance { outputs(dtype) }
  static func gradients(_ dtype: DType) -> Tolerance {
    // Where a norm divides by little, single gradients are large and so are their errors. A document's first reading is
    // (q · k) v: where q · k is next to zero, f32 sums of it in two orders move the gradient by up to 2e-4 of itself, and both
    // are as far from the truth. Few seeds meet that with few heads; RetNet with three of them does every third time.
    dtype == .bfloat16
      ? Tolerance(ratio: 3e-2, floor: 1e-3, spread: 100) : Tolerance(ratio: 5e-5, floor: 1e-6, spread: 100)
  }
}

/// Throws unless two states are the same to rounding.
func expectSameState(_ actual: MixerState, _ expected: MixerState, _ tolerance: Tolerance, _ label: String) throws {
  guard actual.position == expected.position, actual.isSealed == expected.isSealed, actual.names == expected.names
  else {
    throw Mismatch(
      "\(label): expected a state at \(expected.position) with \(expected.names), got \(actual.position), \(actual.names)"
    )
  }
  for name in expected.names {
    let (a, e) = (try actual.tensor(name), try expected.tensor(name))
    if e.dtype.isFloatingPoint {
      try expectClose(a, e, tolerance, "\(label), \(name)")
    } else {
      try expectSameBits(a, e, "\(label), \(name)")
    }
  }
}

/// Throws unless two states agree in every bit.
func expectIdenticalState(_ actual: MixerState, _ expected: MixerState, _ label: String) throws {
  guard actual.position == expected.position, actual.isSealed == expected.isSealed, actual.names == expected.names
  else {
    throw Mismatch(
      "\(label): expected \(expected.names) at \(expected.position), got \(actual.names) at \(actual.position)")
  }
  for name in expected.names { try expectSameBits(actual.tensor(name), expected.tensor(name), "\(label), \(name)") }
}

/// Throws unless the body throws; what it throws must say something.
func expectRefusal(_ label: String, _ body: () throws -> Void) throws {
  do {
    try body()
  } catch {
    if "\(error)".isEmpty { throw Mismatch("\(label): refused without a word") }
    return
  }
  throw Mismatch("\(label): should have been refused")
}
