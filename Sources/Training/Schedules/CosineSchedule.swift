import Foundation

/// Half a cosine from the peak to a tenth of it (Loshchilov & Hutter 2017).
public struct CosineSchedule: Schedule {
  public static let name = "cosine"
  public init() {}
  public func share(step: Int, total: Int) -> Double {
    let progress = min(Double(step) / Double(total), 1)
    return 0.1 + 0.9 * 0.5 * (1 + cos(Double.pi * progress))
  }
}
