import Foundation

/// How values are spread along an axis.
public enum AxisScale: Sendable {
  case linear
  /// Equal ratios at equal distances; values that are not positive are left out.
  case logarithmic
}

/// One axis of a chart: its range, its ticks, and where a value lies.
struct Axis: Sendable {
  let scale: AxisScale
  let lower: Double
  let upper: Double
  let ticks: [Double]

  /// An axis that shows `values`; with none, from 0 (or 1) on. A linear axis ends at ticks.
  init(_ values: [Double], scale: AxisScale, isTight: Bool = false, wantedTicks: Int = 6) {
    self.scale = scale
    let usable = values.filter { $0.isFinite && (scale == .linear || $0 > 0) }
    var low = usable.min() ?? (scale == .linear ? 0 : 1)
    var high = usable.max() ?? (scale == .linear ? 1 : 10)
    switch scale {
    case .linear:
      if low == high {
        let margin = low == 0 ? 1 : abs(low) / 10
        (low, high) = (low - margin, high + margin)
      }
      let step = Axis.step(low, high, wantedTicks)
      if !isTight { (low, high) = ((low / step).rounded(.down) * step, (high / step).rounded(.up) * step) }
      ticks = Axis.linearTicks(low, high, step)
    case .logarithmic:
      if low == high { (low, high) = (low / 2, high * 2) }
      ticks = Axis.logarithmicTicks(low, high)
    }
    (lower, upper) = (low, high)
  }

  /// 0 at the lower end, 1 at the upper; nil for a value that the axis cannot show.
  func fraction(_ value: Double) -> Double? {
    guard value.isFinite else { return nil }
    switch scale {
    case .linear:
      // Halves keep the difference of huge numbers finite.
      return (value / 2 - lower / 2) / (upper / 2 - lower / 2)
    case .logarithmic: return value > 0 ? log(value / lower) / log(upper / lower) : nil
    }
  }

  /// The text at a tick.
  func label(_ tick: Double) -> String {
    let size = abs(tick)
    if size >= 10_000 { return Axis.compact(tick) }
    if size != 0, size < 0.001 { return String(format: "%.2g", tick) }
    return String(format: "%.6g", tick)
  }

  private static func compact(_ value: Double) -> String {
    for (unit, letter) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
    where abs(value) >= unit && abs(value) < 1e15 {
      return String(format: "%.4g", value / unit) + letter
    }
    return String(format: "%.3g", value)
  }

  /// 1, 2 or 5 times a power of ten, so that about `wanted` steps make the range.
  private static func step(_ low: Double, _ high: Double, _ wanted: Int) -> Double {
    let rough = max((high / 2 - low / 2) / Double(max(1, wanted)) * 2, .leastNormalMagnitude)
    let power = pow(10, floor(log10(rough)))
    let factor = [1.0, 2, 5, 10].first { $0 * power >= rough * 0.999 } ?? 10
    return max(factor * power, .leastNormalMagnitude)
  }

  private static func linearTicks(_ low: Double, _ high: Double, _ step: Double) -> [Double] {
    let first = (low / step - 1e-9).rounded(.up)
    let last = (high / step + 1e-9).rounded(.down)
    guard first.isFinite, last.isFinite, last - first <= 100, last >= first else { return [low, high] }
    // 0 × step may be -0, which would be shown with its sign.
    return stride(from: first, through: last, by: 1).map { $0 * step + 0 }
  }

  /// Powers of ten, with 2 and 5 times them where there is room.
  private static func logarithmicTicks(_ low: Double, _ high: Double) -> [Double] {
    let decades = floor(log10(low))...ceil(log10(high))
    let span = log10(high) - log10(low)
    let factors: [Double] = span > 3 ? [1] : span > 1.2 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8]
    let skip = max(1, (span / 8).rounded(.up))
    let all = stride(from: decades.lowerBound, through: decades.upperBound, by: skip).flatMap { decade in
      factors.map { $0 * pow(10, decade) }
    }
    return all.filter { $0 >= low * 0.999 && $0 <= high * 1.001 }
  }
}
