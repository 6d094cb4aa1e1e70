import FermataLayers
import FermataTensors

/// S4D: every channel is a linear system with a diagonal matrix (Gu et al. 2022).
///
///     x' = Λ x + u,  s = 2 Re(C x) + D u;   discretised: x_t = ā ⊙ x_{t-1} + u_t,  s_t = 2 Re(Σ_n C_n b̄_n x_{t,n}) + D u_t
///     y = a ⊙ σ(b),  (a, b) = W gelu(s) + w
///
/// Eigenvalues come in conjugate pairs, of which one is kept: modes = state_size / 2. `DiagonalSystem.Start` says where they
/// start; steps Δ start between dt_min and dt_max; ā and b̄ are as `Discretisation` says.
///
/// State: (batch, 2, modes, width) f32, whatever the length: 4 · batch · state_size · width bytes.
/// Cost per token: 6 · state_size · width beside the projection. Merge: a power of ā and an increment.
/// Bad at: choosing by content what to keep; every token goes in with the same weight.
public struct S4D: RegisteredMixer, DiagonalStateSpace {
  public struct Options: Codable, Sendable {
    public var stateSize: Int?
    public var start: DiagonalSystem.Start?
    public var discretisation: Discretisation?
    public var leastStep: Float?
    public var greatestStep: Float?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case stateSize = "state_size"
      case start = "init"
      case discretisation = "discretization"
      case leastStep = "dt_min"
      case greatestStep = "dt_max"
    }
  }

  public static let name = "s4d"
  public static let card = MixerCard(
    family: .stateSpace, summary: "a diagonal linear system for every channel (S4D)",
    state: "4 · width · state_size", cost: "6 · width · state_size",
    weakness: "choosing by content what to keep: every token goes in with the same weight",
    source: "Gu, Gupta, Goel & Ré 2022")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [
    #"{"state_size": 10, "init": "inv"}"#,
    #"{"state_size": 4, "init": "legs", "discretization": "bilinear", "dt_min": 0.01}"#,
  ]

  public var system: DiagonalSystem
  public var output: Linear

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    system = try DiagonalSystem(
      channels: width, modes: DiagonalSystem.modes(options.stateSize, mixer: Self.name), start: options.start ?? .lin,
      discretisation: options.discretisation ?? .zeroOrderHold,
      steps: StepRange(options.leastStep, options.greatestStep, mixer: Self.name), random: &random)
    output = try Linear(width, 2 * width, bias: true, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("kernel", &system)
    try visitor.module("out_proj", &output)
  }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 8 * batch * system.modes * system.channels }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: ["state": try Tensor.zeros([batch, 2, system.modes, system.channels])])
  }

  func decay() throws -> Tensor { try system.discretised().decay }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let piece = try piece.sequence(for: Self.name)
    let position = try state.position(after: piece.length)
    let (decay, weights) = try system.discretised()
    let (mixed, final) = try diagonalScan(
      piece.values, decay: decay, readout: weights, skip: system.skip, state: state.tensor("state"),
      resets: piece.layout.resets, valid: piece.layout.valid)
    let y = try gatedOutput(mixed, output)
    state["state"] = final
    state.position = position
    return y
  }
}

/// a ⊙ σ(b) with (a, b) = W gelu(x) + w: what S4 and its kin put after their state space (Dauphin et al. 2017).
func gatedOutput(_ x: Tensor, _ projection: Linear) throws -> Tensor {
  let width = x.shape[x.rank - 1]
  let parts = try projection(x.gelu()).split(sizes: [width, width], axis: -1)
  return try parts[0] * parts[1].sigmoid()
}
