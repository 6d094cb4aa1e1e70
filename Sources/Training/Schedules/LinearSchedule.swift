/// A straight line from the peak to nothing.
public struct LinearSchedule: Schedule {
  public static let name = "linear"
  public init() {}
  public func share(step: Int, total: Int) -> Double { max(0, 1 - Double(step) / Double(total)) }
}
