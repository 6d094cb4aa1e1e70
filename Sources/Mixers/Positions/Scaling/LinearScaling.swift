/// Position interpolation (Chen et al. 2023; kaiokendev 2023): every frequency divided by `factor`.
public struct LinearScaling: RotaryScaling {
  public static let name = "linear"
  public static let dependsOnLength = false
  private let values: [Double]

  public init(_ settings: RotarySettings) throws {
    let factor = try settings.positive("factor")
    values = settings.plain.map { $0 / factor }
  }

  public func frequencies(length: Int) -> (values: [Double], amplitude: Double) { (values, 1) }
}
