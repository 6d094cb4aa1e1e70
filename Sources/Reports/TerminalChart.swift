import Foundation

/// Charts made of characters.
public enum TerminalChart {
  private static let blocks: [Character] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]

  /// One line of blocks, at most `width`, for the averages of equal stretches of `values`. A stretch without finite
  /// values is a space.
  public static func sparkline(_ values: [Double], width: Int = 40) -> String {
    let means = averages(values, width)
    let finite = means.compactMap { $0 }
    guard let low = finite.min(), let high = finite.max() else { return String(repeating: " ", count: means.count) }
    return String(
      means.map { mean in
        guard let mean else { return " " }
        let fraction = high > low ? (mean / 2 - low / 2) / (high / 2 - low / 2) : 0.5
        return blocks[min(blocks.count - 1, Int(fraction * Double(blocks.count)))]
      })
  }

  /// A chart of `height` lines with the highest and the lowest value at its left, in ASCII.
  public static func plot(_ values: [Double], width: Int = 60, height: Int = 8) -> String {
    let means = averages(values, width)
    let finite = means.compactMap { $0 }
    guard let low = finite.min(), let high = finite.max(), height > 0 else { return "" }
    let last = height - 1
    let rows = means.map { mean -> Int? in
      guard let mean else { return nil }
      let fraction = high > low ? (mean / 2 - low / 2) / (high / 2 - low / 2) : 0.5
      return last - Int((fraction * Double(last)).rounded())
    }
    let labels = [Human.fixed(high, 3), Human.fixed(low, 3)]
    let margin = labels.map(\.count).max() ?? 0
    return (0..<height).map { row in
      let label = row == 0 ? labels[0] : row == last ? labels[1] : ""
      let padding = String(repeating: " ", count: margin - label.count)
      return padding + label + " |" + String(rows.map { $0 == row ? "*" : " " }) + "\n"
    }.joined()
  }

  private static func averages(_ values: [Double], _ width: Int) -> [Double?] {
    let count = min(values.count, max(0, width))
    return (0..<count).map { index in
      let part = values[index * values.count / count..<(index + 1) * values.count / count].filter(\.isFinite)
      return part.isEmpty ? nil : part.reduce(0) { $0 + $1 / Double(part.count) }
    }
  }
}
