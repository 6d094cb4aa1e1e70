import RealModule

/// Dynamic NTK-aware scaling (bloc97 and emozilla 2023): beyond the original length L₀ the base grows with the length L,
///
///     base · (factor · L / L₀ - (factor - 1))^(width / (width - 2))
///
/// L₀ is max_position_embeddings here, as in the models that use it.
public struct DynamicScaling: RotaryScaling {
  public static let name = "dynamic"
  public static let dependsOnLength = true
  private let factor: Double
  private let base: Double
  private let width: Int
  private let originalLength: Int

  public init(_ settings: RotarySettings) throws {
    factor = try settings.positive("factor")
    guard settings.width > 2 else { throw settings.error("'dynamic' needs more than 2 features that turn") }
    guard factor >= 1 else { throw settings.error("factor must be at least 1, got \(factor)") }
    (base, width, originalLength) = (settings.base, settings.width, settings.maximumLength)
  }

  public func frequencies(length: Int) -> (values: [Double], amplitude: Double) {
    let ratio = Double(max(length, originalLength)) / Double(originalLength)
    let grown = base * Double.pow(factor * ratio - (factor - 1), Double(width) / Double(width - 2))
    return (RotaryPositions.frequencies(width: width, base: grown), 1)
  }
}
