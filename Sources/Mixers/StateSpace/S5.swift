import FermataLayers
import FermataTensors

/// S5: one diagonal linear system for all channels together (Smith, Warrington & Linderman 2023), whose state starts anew at
/// every document inside a sequence (Lu et al. 2023).
///
///     x' = Λ x + B u,  s = 2 Re(C x) + D u;   discretised: x_t = ā ⊙ x_{t-1} + b̄ ⊙ (B u_t),  s_t = 2 Re(C x_t) + D u_t
///     y = g ⊙ σ(W g),  g = gelu(s)
///
/// Λ has one half of state_size conjugate pairs and starts as the eigenvalues of `blocks` HiPPO-LegS matrices' normal parts,
/// with B and C turned into their basis. B and C are dense: two layer-sized products a token.
///
/// State: (batch, 2, 1, state_size / 2) f32, whatever the length: 4 · batch · state_size bytes.
/// Cost per token: 4 · width · state_size beside the output's gate. Merge: a power of ā and an increment.
/// Bad at: choosing by content what to keep; its whole memory is state_size numbers.
/// Λ is two vectors and steps are logarithms, so that weight decay and half precision spare them.
public struct S5: RegisteredMixer, DiagonalStateSpace {
  public struct Options: Codable, Sendable {
    public var stateSize: Int?
    public var blocks: Int?
    public var discretisation: Discretisation?
    public var leastStep: Float?
    public var greatestStep: Float?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case stateSize = "state_size"
      case blocks
      case discretisation = "discretization"
      case leastStep = "dt_min"
      case greatestStep = "dt_max"
    }
  }

  public static let name = "s5"
  public static let card = MixerCard(
    family: .stateSpace, summary: "one diagonal linear system for all channels, reset at document starts (S5)",
    state: "4 · state_size", cost: "4 · width · state_size",
    weakness: "choosing by content what to keep; its whole memory is state_size numbers",
    source: "Smith, Warrington & Linderman 2023; Lu et al. 2023")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    #"{"state_size": 36, "blocks": 2}"#
  ]

  public var real: Tensor
  public var imaginary: Tensor
  public var logStep: Tensor
  /// B as pairs (modes, width, 2), C as pairs (width, modes, 2).
  public var input: Tensor
  public var readout: Tensor
  public var skip: Tensor
  public var gate: Linear
  public let discretisation: Discretisation
  private let remembered = Remembered<System>()

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    let modes = try DiagonalSystem.modes(options.stateSize, mixer: Self.name)
    let blocks = options.blocks ?? 1
    guard blocks > 0, modes % blocks == 0 else {
      throw ConfigurationError(
        "mixer '\(Self.name)'", "blocks (\(blocks)) must divide state_size / 2 (\(modes))")
    }
    discretisation = options.discretisation ?? .zeroOrderHold
    let steps = try StepRange(options.leastStep, options.greatestStep, mixer: Self.name)
    let hippo = HiPPO(size: 2 * modes / blocks)
    real = try Tensor.full([modes], -0.5)
    imaginary = try Tensor((0..<blocks).flatMap { _ in hippo.frequencies.map { Float($0) } })
    logStep = try steps.draw(modes, &random)
    input = try Self.turnedInput(hippo, blocks: blocks, width: width, &random)
    readout = try Self.turnedReadout(hippo, blocks: blocks, width: width, &random)
    skip = try random.normal([width])
    gate = try Linear(width, width, random: &random)
  }

  /// V* B for real B (state_size, width) of deviation 1/√width, block by block.
  private static func turnedInput(_ hippo: HiPPO, blocks: Int, width: Int, _ random: inout RandomSource) throws
    -> Tensor
  {
    let (real, imaginary) = try hippo.basis()
    let b = try random.normal([blocks, hippo.size, width], deviation: 1 / Float(width).squareRoot())
    let parts = try [matmul(real, b), -matmul(imaginary, b)].map { try $0.reshaped([-1, width]).expanded(at: 2) }
    return try Tensor.concatenated(parts, axis: 2)
  }

  /// C V for complex C (width, state_size), of deviation 1/√state_size together.
  private static func turnedReadout(_ hippo: HiPPO, blocks: Int, width: Int, _ random: inout RandomSource) throws
    -> Tensor
  {
    let (real, imaginary) = try hippo.basis()
    let deviation = (0.5 / Float(hippo.size * blocks)).squareRoot()
    let (a, b) = (
      try random.normal([blocks, width, hippo.size], deviation: deviation),
      try random.normal([blocks, width, hippo.size], deviation: deviation)
    )
    let (x, y) = (try real.transposed(0, 1), try imaginary.transposed(0, 1))
    let parts = try [matmul(a, x) - matmul(b, y), matmul(a, y) + matmul(b, x)].map {
      try $0.transposed(0, 1).reshaped([width, -1]).expanded(at: 2)
    }
    return try Tensor.concatenated(parts, axis: 2)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("Lambda_re", &real)
    try visitor.parameter("Lambda_im", &imaginary)
    try visitor.parameter("log_step", &logStep)
    try visitor.parameter("B", &input)
    try visitor.parameter("C", &readout)
    try visitor.parameter("D", &skip)
    try visitor.module("gate_proj", &gate)
  }

  private var modes: Int { real.shape[0] }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 8 * batch * modes }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: ["state": try Tensor.zeros([batch, 2, 1, modes])])
  }

  /// ā (2, 1, modes), and the matrices of b̄ ⊙ B (2 · modes, width) and of 2 Re(C x) (width, 2 · modes) over real planes.
  private struct System: Sendable {
    var decay: Tensor
    var input: Tensor
    var readout: Tensor
  }

  private func system() throws -> System {
    try remembered([real, imaginary, logStep, input, readout]) {
      let eigenvalues = ComplexTensor(real: real, imaginary: imaginary)
      let (decay, gain) = try discretisation(eigenvalues, step: logStep.exp())
      let column = ComplexTensor(real: try gain.real.expanded(at: 1), imaginary: try gain.imaginary.expanded(at: 1))
      let b = try column * ComplexTensor(pairs: input)
      let c = try ComplexTensor(pairs: readout) * 2
      return System(
        decay: try decay.planes().expanded(at: 1), input: try Tensor.concatenated([b.real, b.imaginary], axis: 0),
        readout: try Tensor.concatenated([c.real, -c.imaginary], axis: 1))
    }
  }

  func decay() throws -> Tensor { try system().decay }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let piece = try piece.sequence(for: Self.name)
    let position = try state.position(after: piece.length)
    let system = try system()
    let driven = try linear(piece.values, weight: system.input).reshaped([piece.batch, piece.length, 2, modes])
    let (modesOverTime, final) = try complexScan(
      driven, decay: system.decay, state: state.tensor("state"), resets: piece.layout.resets, valid: piece.layout.valid)
    let read = try linear(modesOverTime.reshaped([piece.batch, piece.length, 2 * modes]), weight: system.readout)
    let g = try (read + piece.values * skip.cast(to: piece.values.dtype)).gelu()
    let y = try g * gate(g).sigmoid()
    state["state"] = final
    state.position = position
    return y
  }
}

extension HiPPO {
  /// Real and imaginary parts of the kept eigenvectors, as rows (modes, size).
  fileprivate func basis() throws -> (real: Tensor, imaginary: Tensor) {
    func tensor(_ rows: [[Double]]) throws -> Tensor {
      try Tensor(rows.flatMap { $0.map { Float($0) } }, shape: [rows.count, size])
    }
    return (try tensor(real), try tensor(imaginary))
  }
}
