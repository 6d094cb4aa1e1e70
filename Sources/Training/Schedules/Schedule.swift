import FermataFiles
import Foundation

/// The learning rate over a run, as a share of its peak. A pure function of the step, so that a resumed run goes on as before.
public protocol Schedule: Sendable {
  static var name: String { get }
  init()
  /// The share at a step counted from 0, after a warm-up that `Schedules` adds, of `total` steps.
  func share(step: Int, total: Int) -> Double
}

/// The table of schedules.
public enum Schedules {
  public static let all: [any Schedule.Type] = [
    CosineSchedule.self, LinearSchedule.self, WarmupStableDecaySchedule.self, ConstantSchedule.self,
  ]

  public static var names: [String] { all.map { $0.name } }

  public static func named(_ name: String) throws -> any Schedule {
    guard let type = all.first(where: { $0.name == name }) else {
      let near = StrictJSON.nearest(name, in: names).map { "; did you mean '\($0)'?" } ?? ""
      throw TrainingError.setting(
        "schedule", "there is no schedule '\(name)' (known: \(names.joined(separator: ", ")))\(near)")
    }
    return type.init()
  }

  /// Linear warm-up from 0, then the schedule over the rest.
  public static func share(_ schedule: any Schedule, step: Int, warmup: Int, total: Int) -> Double {
    if step < warmup { return Double(step + 1) / Double(warmup + 1) }
    return schedule.share(step: step - warmup, total: max(total - warmup, 1))
  }
}
