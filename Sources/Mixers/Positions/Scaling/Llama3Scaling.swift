import RealModule

/// The scaling of Llama 3.1 (Grattafiori et al. 2024): wavelengths shorter than the original length over high_freq_factor
/// stay, those longer than it over low_freq_factor are divided by `factor`, with a ramp in turns between.
public struct Llama3Scaling: RotaryScaling {
  public static let name = "llama3"
  public static let dependsOnLength = false
  private let values: [Double]

  public init(_ settings: RotarySettings) throws {
    let factor = try settings.positive("factor")
    let (low, high) = (try settings.positive("low_freq_factor"), try settings.positive("high_freq_factor"))
    guard high > low else {
      throw settings.error("high_freq_factor (\(high)) must be above low_freq_factor (\(low))")
    }
    let original = Double(try settings.originalLength())
    values = settings.plain.map { frequency in
      let turns = original * frequency / (2 * Double.pi)
      let kept = min(max((turns - low) / (high - low), 0), 1)
      return (1 - kept) * frequency / factor + kept * frequency
    }
  }

  public func frequencies(length: Int) -> (values: [Double], amplitude: Double) { (values, 1) }
}
