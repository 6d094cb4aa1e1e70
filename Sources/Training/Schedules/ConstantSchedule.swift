/// The peak all along.
public struct ConstantSchedule: Schedule {
  public static let name = "constant"
  public init() {}
  public func share(step: Int, total: Int) -> Double { 1 }
}
