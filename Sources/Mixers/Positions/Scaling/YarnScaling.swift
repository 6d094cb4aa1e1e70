import RealModule

/// YaRN (Peng et al. 2023): frequencies that turn often within the original length stay, those that turn less than once
/// are divided by `factor`, with a ramp between; scores are sharpened by an amplitude of 0.1 ln(factor) + 1.
public struct YarnScaling: RotaryScaling {
  public static let name = "yarn"
  public static let dependsOnLength = false
  private let values: [Double]
  private let amplitude: Double

  public init(_ settings: RotarySettings) throws {
    let original = Double(try settings.originalLength())
    let factor = try settings.number("factor") ?? Double(settings.maximumLength) / original
    guard factor > 0 else { throw settings.error("factor must be above 0, got \(factor)") }
    amplitude = try settings.number("attention_factor") ?? Self.amplitude(factor, settings)
    let ramp = try Self.ramp(settings, original)
    values = settings.plain.enumerated().map { pair, frequency in
      let share = ramp(Double(pair))
      return frequency / factor * share + frequency * (1 - share)
    }
  }

  public func frequencies(length: Int) -> (values: [Double], amplitude: Double) { (values, amplitude) }

  /// `mscale` over `mscale_all_dim` where a configuration has both (DeepSeek-AI 2024).
  private static func amplitude(_ factor: Double, _ settings: RotarySettings) throws -> Double {
    func sharpening(_ scale: Double) -> Double { factor <= 1 ? 1 : 0.1 * scale * Double.log(factor) + 1 }
    if let one = try settings.number("mscale"), let all = try settings.number("mscale_all_dim"), one != 0, all != 0 {
      return sharpening(one) / sharpening(all)
    }
    return sharpening(1)
  }

  /// How far a pair is interpolated: 0 for pairs that make at least beta_fast turns within the original length, 1 for those
  /// that make at most beta_slow.
  private static func ramp(_ settings: RotarySettings, _ original: Double) throws -> (Double) -> Double {
    let width = Double(settings.width)
    func pair(turning turns: Double) -> Double {
      width * Double.log(original / (turns * 2 * Double.pi)) / (2 * Double.log(settings.base))
    }
    func turns(_ key: String, _ fallback: Double) throws -> Double {
      guard let given = try settings.number(key), given != 0 else { return fallback }
      guard given > 0 else { throw settings.error("\(key) must be above 0, got \(given)") }
      return given
    }
    var (low, high) = (pair(turning: try turns("beta_fast", 32)), pair(turning: try turns("beta_slow", 1)))
    if try settings.flag("truncate") ?? true { (low, high) = (low.rounded(.down), high.rounded(.up)) }
    (low, high) = (max(low, 0), min(high, width - 1))
    let span = low == high ? 0.001 : high - low
    return { min(max(($0 - low) / span, 0), 1) }
  }
}
