import RealModule

/// LongRoPE (Ding et al. 2024): each frequency is divided by a factor of its own, one list for sequences up to the original
/// length and another beyond it; features are multiplied by √(1 + ln(factor) / ln(original length)).
public struct LongRopeScaling: RotaryScaling {
  public static let name = "longrope"
  public static let dependsOnLength = true
  private let short: [Double]
  private let long: [Double]
  private let amplitude: Double
  private let originalLength: Int

  public init(_ settings: RotarySettings) throws {
    let plain = settings.plain
    short = zip(plain, try settings.factors("short_factor")).map { $0 / $1 }
    long = zip(plain, try settings.factors("long_factor")).map { $0 / $1 }
    originalLength = try settings.originalLength()
    let factor = try settings.number("factor") ?? Double(settings.maximumLength) / Double(originalLength)
    guard originalLength > 1 else { throw settings.error("the original length must be above 1") }
    amplitude =
      try settings.number("attention_factor")
      ?? (factor <= 1 ? 1 : (1 + Double.log(factor) / Double.log(Double(originalLength))).squareRoot())
  }

  public func frequencies(length: Int) -> (values: [Double], amplitude: Double) {
    (length > originalLength ? long : short, amplitude)
  }
}
