/// The peak for four fifths of the run, then a straight line to nothing (Hu et al. 2024): a run can be lengthened
/// from any checkpoint of its stable part.
public struct WarmupStableDecaySchedule: Schedule {
  public static let name = "wsd"
  public init() {}
  public func share(step: Int, total: Int) -> Double {
    let decay = max(1, total / 5)
    let stable = total - decay
    return step < stable ? 1 : max(0, Double(total - step) / Double(decay))
  }
}
