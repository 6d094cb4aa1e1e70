import FermataLayers
import FermataTensors

/// The parameters of a diagonal state space of every channel (Gu et al. 2022): Λ, steps, C with what B is of it, and D.
///
/// The parameters of Λ are vectors (channels · modes), channel by channel, so that weight decay and half precision spare them.
public struct DiagonalSystem: Module {
  /// Where the eigenvalues Λ start, with N = 2 · modes: "lin" Λ_n = −1/2 + iπn, "inv" Λ_n = −1/2 + i (N/π)(N/(2n+1) − 1),
  /// "legs" the eigenvalues of HiPPO-LegS's normal part, with half its input vector as B.
  public enum Start: String, Codable, Sendable, CaseIterable { case lin, inv, legs }

  public var logStep: Tensor
  /// log(−Re Λ) and Im Λ (channels · modes).
  public var logReal: Tensor
  public var imaginary: Tensor
  /// C ⊙ B as pairs (channels, modes, 2).
  public var readout: Tensor
  public var skip: Tensor
  public let modes: Int
  public let discretisation: Discretisation
  private let remembered = Remembered<(decay: Tensor, readout: Tensor)>()

  init(
    channels: Int, modes: Int, start: Start, discretisation: Discretisation, steps: StepRange,
    random: inout RandomSource
  ) throws {
    self.modes = modes
    self.discretisation = discretisation
    logStep = try steps.draw(channels, &random)
    logReal = try Tensor.full([channels * modes], -0.693_147_180_559_945_3)
    imaginary = try Tensor(start.frequencies(modes), shape: [1, modes]).broadcast(to: [channels, modes]).reshaped([-1])
    readout = try random.normal([channels, modes, 2], deviation: Float(0.5).squareRoot())
    skip = try random.normal([channels])
    guard start == .legs else { return }
    let b = HiPPO(size: 2 * modes).input
    let half = ComplexTensor(
      real: try Tensor(b.real.map { Float($0 / 2) }), imaginary: try Tensor(b.imaginary.map { Float($0 / 2) }))
    let folded = try ComplexTensor(pairs: readout) * half
    readout = try Tensor.concatenated([folded.real.expanded(at: 2), folded.imaginary.expanded(at: 2)], axis: 2)
  }

  public mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.parameter("log_dt", &logStep)
    try visitor.parameter("log_A_real", &logReal)
    try visitor.parameter("A_imag", &imaginary)
    try visitor.parameter("C", &readout)
    try visitor.parameter("D", &skip)
  }

  public var channels: Int { skip.shape[0] }

  /// ā and 2 C b̄, (2, modes, channels) each.
  func discretised() throws -> (decay: Tensor, readout: Tensor) {
    try remembered([logStep, logReal, imaginary, readout]) {
      let shape = [channels, modes]
      let eigenvalues = ComplexTensor(
        real: try -logReal.exp().reshaped(shape), imaginary: try imaginary.reshaped(shape))
      let (decay, gain) = try discretisation(eigenvalues, step: logStep.exp().expanded(at: 1))
      let weights = try gain * ComplexTensor(pairs: readout) * 2
      return (try decay.transposed(0, 1).planes(), try weights.transposed(0, 1).planes())
    }
  }

  /// Half of `state_size`, which must be even: of each conjugate pair one is kept.
  static func modes(_ stateSize: Int?, mixer: String) throws -> Int {
    let size = stateSize ?? 64
    guard size > 0, size % 2 == 0, size <= 1024 else {
      throw ConfigurationError(
        "mixer '\(mixer)'", "state_size must be even (states come in conjugate pairs) and in 2...1024, got \(size)")
    }
    return size / 2
  }
}

extension DiagonalSystem.Start {
  /// Im Λ_n of the kept eigenvalues.
  func frequencies(_ modes: Int) -> [Float] {
    let size = Double(2 * modes)
    switch self {
    case .lin: return (0..<modes).map { Float(Double.pi * Double($0)) }
    case .inv: return (0..<modes).map { Float(size / .pi * (size / (2 * Double($0) + 1) - 1)) }
    case .legs: return HiPPO(size: 2 * modes).frequencies.map { Float($0) }
    }
  }
}
