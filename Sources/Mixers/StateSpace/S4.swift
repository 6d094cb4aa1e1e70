import FermataLayers
import FermataTensors

/// S4: every channel is a linear system whose matrix is diagonal minus one of rank one, started as HiPPO-LegS, which keeps the
/// whole past as coefficients of Legendre polynomials (Gu, Goel & Ré 2022).
///
///     x' = (Λ − p p*) x + B u,  s = 2 Re(C x) + D u,  by the trapezium rule: Ā = (1 − Δ/2 A)⁻¹ (1 + Δ/2 A), B̄ = (1 − Δ/2 A)⁻¹ Δ B
///     y = a ⊙ σ(b),  (a, b) = W gelu(s) + w
///
/// With E = 1 − Δ/2 Λ, ρ = p* E⁻¹ p and κ = Δ / (1 + ρ Δ/2), Woodbury's identity gives
///
///     Ā x = (2 E⁻¹ − 1) x − κ E⁻¹ p (p* E⁻¹ x),   B̄ = Δ E⁻¹ B − Δ/2 κ E⁻¹ p (p* E⁻¹ B)
///
/// so that a step costs no more than twice that of a diagonal system. Of each conjugate pair one is kept: modes =
/// state_size / 2, and p* x = 2 Re Σ conj(p_n) x_n is real.
///
/// State: (batch, 2, modes, width) f32, whatever the length: 4 · batch · state_size · width bytes.
/// Cost per token: 12 · state_size · width beside the projection.
/// Merge: Ā^t is a dense matrix of state_size² numbers a channel, found with log t products: dear.
/// Bad at: choosing by content what to keep; every token goes in with the same weight.
/// Λ, p and B are vectors (width · modes, or pairs of them), channel by channel, so that weight decay and half precision spare them.
public struct S4: RegisteredMixer, MergingMixer {
  public struct Options: Codable, Sendable {
    public var stateSize: Int?
    public var leastStep: Float?
    public var greatestStep: Float?

    enum CodingKeys: String, CodingKey, CaseIterable {
      case stateSize = "state_size"
      case leastStep = "dt_min"
      case greatestStep = "dt_max"
    }
  }

  public static let name = "s4"
  public static let card = MixerCard(
    family: .stateSpace, summary: "a linear system for every channel that starts as HiPPO-LegS (S4)",
    state: "4 · width · state_size", cost: "12 · width · state_size",
    weakness: "choosing by content what to keep; summaries hold state_size² numbers a channel",
    source: "Gu, Goel & Ré 2022")
  public static let optionKeys = Options.CodingKeys.allCases.map(\.rawValue)
  public static let examples = [#"{"state_size": 6, "dt_min": 0.01}"#]

  public var logStep: Tensor
  public var logReal: Tensor
  public var imaginary: Tensor
  /// p and B as pairs (width · modes · 2), C as pairs (width, modes, 2).
  public var lowRank: Tensor
  public var input: Tensor
  public var readout: Tensor
  public var skip: Tensor
  public var output: Linear
  public let modes: Int
  private let remembered = Remembered<LowRankSystem>()

  public init(width: Int, options: Options, random: inout RandomSource) throws {
    let modes = try DiagonalSystem.modes(options.stateSize, mixer: Self.name)
    self.modes = modes
    let steps = try StepRange(options.leastStep, options.greatestStep, mixer: Self.name)
    let hippo = HiPPO(size: 2 * modes)
    func everyChannel(_ values: [Float]) throws -> Tensor {
      try Tensor(values, shape: [1, values.count]).broadcast(to: [width, values.count]).reshaped([-1])
    }
    func pairs(_ x: (real: [Double], imaginary: [Double])) -> [Float] {
      zip(x.real, x.imaginary).flatMap { [Float($0.0), Float($0.1)] }
    }
    logStep = try steps.draw(width, &random)
    logReal = try Tensor.full([width * modes], -0.693_147_180_559_945_3)
    imaginary = try everyChannel(hippo.frequencies.map { Float($0) })
    lowRank = try everyChannel(pairs(hippo.lowRank))
    input = try everyChannel(pairs(hippo.input))
    readout = try random.normal([width, modes, 2], deviation: Float(0.5).squareRoot())
    skip = try random.normal([width])
    output = try Linear(width, 2 * width, bias: true, random: &random)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("log_dt", &logStep)
    try visitor.parameter("log_A_real", &logReal)
    try visitor.parameter("A_imag", &imaginary)
    try visitor.parameter("P", &lowRank)
    try visitor.parameter("B", &input)
    try visitor.parameter("C", &readout)
    try visitor.parameter("D", &skip)
    try visitor.module("out_proj", &output)
  }

  private var width: Int { skip.shape[0] }

  public var laws: Laws {
    Laws(
      cut: .causal, merge: .associative(cost: "a state_size × state_size matrix a channel, and an increment"))
  }

  public func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 8 * batch * modes * width }

  public func initialState(batch: Int) throws -> MixerState {
    MixerState(tensors: ["state": try Tensor.zeros([batch, 2, modes, width])])
  }

  /// The discretised system of every channel.
  package func system() throws -> LowRankSystem {
    try remembered([logStep, logReal, imaginary, lowRank, input, readout, skip], make: discretised)
  }

  private func discretised() throws -> LowRankSystem {
    func complex(_ flat: Tensor) throws -> ComplexTensor {
      try ComplexTensor(pairs: flat.reshaped([width, modes, 2])).transposed(0, 1)
    }
    func column(_ flat: Tensor) throws -> Tensor { try flat.reshaped([width, modes]).transposed(0, 1) }
    let step = try logStep.exp()
    let eigenvalues = ComplexTensor(real: try -column(logReal.exp()), imaginary: try column(imaginary))
    let (p, b, c) = (try complex(lowRank), try complex(input), try complex(readout))
    let inverse = try (eigenvalues * (step * -0.5) + 1).reciprocal()
    let (scaledP, scaledB) = (try inverse * p, try inverse * b)
    // p* x over both halves of the pairs is twice the real part over one.
    func project(_ x: ComplexTensor) throws -> Tensor {
      try (p.real * x.real + p.imaginary * x.imaginary).sum(axis: 0) * 2
    }
    let correction = try scaledP * (step / (step * project(scaledP) * 0.5 + 1))
    let drive = try scaledB * step + correction * (step * project(scaledB) * -0.5)
    let conjugate = ComplexTensor(real: p.real, imaginary: try -p.imaginary)
    return LowRankSystem(
      decay: try (inverse * 2 + -1).planes(), correction: try correction.planes(), input: try drive.planes(),
      probe: try (inverse * conjugate * 2).planes(), readout: try (c * 2).planes(), skip: skip)
  }

  public func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    let piece = try piece.sequence(for: Self.name)
    let position = try state.position(after: piece.length)
    let (mixed, final) = try lowRankScan(
      piece.values, system: system(), state: state.tensor("state"), resets: piece.layout.resets,
      valid: piece.layout.valid)
    let y = try gatedOutput(mixed, output)
    state["state"] = final
    state.position = position
    return y
  }

  // MARK: Merge law

  /// Ā (width, 2 modes, 2 modes) over real planes, transposed: what one token does to each unit state.
  private func transition() throws -> Tensor {
    let size = 2 * modes
    let states = try identity().reshaped([size, 2, modes, 1]).broadcast(to: [size, 2, modes, width]).contiguous()
    let (_, moved) = try lowRankScan(Tensor.zeros([size, 1, width]), system: system(), state: states)
    return try moved.reshaped([size, size, width]).transposed([2, 0, 1]).contiguous()
  }

  /// Ā to the number of tokens, transposed (width, 2 modes, 2 modes), and what the stretch leaves of an empty state.
  public func summarise(_ piece: Piece) throws -> Summary {
    try require(
      piece.layout.resets == nil && piece.layout.valid == nil, "summarise",
      expected: "a stretch of one document without padding", got: "document starts or padding",
      advice: "summarise each document by itself")
    var state = try initialState(batch: piece.batch)
    _ = try self(piece, state: &state)
    var power = try identity().expanded(at: 0).broadcast(to: [width, 2 * modes, 2 * modes]).contiguous()
    var (square, rest) = (try transition(), piece.length)
    while rest > 0 {
      if rest & 1 == 1 { power = try matmul(power, square) }
      rest >>= 1
      if rest > 0 { square = try matmul(square, square) }
    }
    return Summary(length: piece.length, tensors: ["power": power, "increment": try state.tensor("state")])
  }

  private func identity() throws -> Tensor {
    let size = 2 * modes
    var values = [Float](repeating: 0, count: size * size)
    for index in 0..<size { values[index * (size + 1)] = 1 }
    return try Tensor(values, shape: [size, size])
  }

  /// (Ā^{t₁} Ā^{t₂}, Ā^{t₂} u₁ + u₂)
  public func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    let power = try right.tensor("power")
    return Summary(
      length: left.length + right.length,
      tensors: [
        "power": try matmul(left.tensor("power"), power),
        "increment": try applying(power, to: left.tensor("increment")) + right.tensor("increment"),
      ])
  }

  public func advance(_ state: inout MixerState, by summary: Summary) throws {
    let position = try state.position(after: summary.length)
    state["state"] =
      try applying(summary.tensor("power"), to: state.tensor("state")) + summary.tensor("increment")
    state.position = position
  }

  /// A power of Ā, transposed, on states (batch, 2, modes, width).
  private func applying(_ power: Tensor, to state: Tensor) throws -> Tensor {
    let rows = try state.reshaped([-1, 2 * modes, width]).transposed([2, 0, 1])
    return try matmul(rows, power).transposed([1, 2, 0]).reshaped(state.shape)
  }
}
