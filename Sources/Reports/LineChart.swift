import Foundation

/// A chart of lines, written as SVG that reads well on light and dark pages.
public struct LineChart: Sendable {
  /// One line of a chart.
  public struct Series: Sendable {
    /// Its name in the legend.
    public var name: String
    /// Its points from left to right; one that is not finite makes a gap.
    public var points: [(x: Double, y: Double)]
    /// Whether each point is marked, as suits a few measurements.
    public var isMarked: Bool

    public init(_ name: String, _ points: [(x: Double, y: Double)], isMarked: Bool = false) {
      self.name = name
      self.points = points
      self.isMarked = isMarked
    }
  }

  public var title: String
  public var xLabel: String
  public var yLabel: String
  public var xScale: AxisScale
  public var yScale: AxisScale
  public var series: [Series]

  /// Points that a line keeps at most.
  public static let mostPoints = 1000

  public init(
    title: String, xLabel: String, yLabel: String, xScale: AxisScale = .linear, yScale: AxisScale = .linear,
    series: [Series] = []
  ) {
    self.title = title
    self.xLabel = xLabel
    self.yLabel = yLabel
    self.xScale = xScale
    self.yScale = yScale
    self.series = series
  }

  // Colours of similar lightness, told apart by people who see few colours, and visible on white and on black.
  static let colors = ["#2f7ed8", "#e07b20", "#2a9d72", "#c2549d", "#8a6fd1", "#b0902a", "#4fa3b8", "#d1495b"]
  static let ink = "#808890"
  static let width = 720.0
  static let height = 420.0
  static let left = 72.0
  static let right = 24.0
  static let bottom = 56.0
  static let fontSize = 13.0

  /// The chart as an SVG document.
  public func svg() -> String {
    let legend = Legend(names: series.map(\.name), width: Self.width - Self.left - Self.right)
    let frame = Frame(
      left: Self.left, top: 44 + legend.height, right: Self.width - Self.right, bottom: Self.height - Self.bottom)
    let thinned = series.map { Thinning.thin($0.points, to: Self.mostPoints) }
    let x = Axis(thinned.flatMap { $0.map(\.x) }, scale: xScale, isTight: true, wantedTicks: 7)
    let y = Axis(thinned.flatMap { $0.map(\.y) }, scale: yScale)
    var output = SVG()
    output.open(width: Self.width, height: Self.height, title: title, font: Self.fontSize)
    output.text(title, x: Self.width / 2, y: 26, size: 16, color: Self.ink, weight: "600")
    drawAxes(&output, frame, x, y)
    for (index, points) in thinned.enumerated() {
      drawLine(&output, frame, x, y, points, color: Self.color(index), isMarked: series[index].isMarked)
    }
    for (index, item) in legend.items.enumerated() {
      let place = (x: Self.left + item.x, y: 46 + item.y)
      output.line(place.x, place.y, place.x + 20, place.y, color: Self.color(index), width: 3)
      output.text(item.name, x: place.x + 26, y: place.y + 4, size: Self.fontSize, color: Self.ink, anchor: "start")
    }
    output.close()
    return output.text
  }

  static func color(_ index: Int) -> String { colors[index % colors.count] }

  private func drawAxes(_ output: inout SVG, _ frame: Frame, _ x: Axis, _ y: Axis) {
    for tick in y.ticks {
      guard let fraction = y.fraction(tick) else { continue }
      let place = frame.y(fraction)
      output.line(frame.left, place, frame.right, place, color: Self.ink, width: 1, opacity: 0.25)
      output.text(y.label(tick), x: frame.left - 8, y: place + 4, size: Self.fontSize, color: Self.ink, anchor: "end")
    }
    for tick in x.ticks {
      guard let fraction = x.fraction(tick) else { continue }
      let place = frame.x(fraction)
      output.line(place, frame.bottom, place, frame.bottom + 5, color: Self.ink, width: 1)
      output.text(x.label(tick), x: place, y: frame.bottom + 20, size: Self.fontSize, color: Self.ink)
    }
    output.line(frame.left, frame.bottom, frame.right, frame.bottom, color: Self.ink, width: 1)
    output.text(
      xLabel, x: (frame.left + frame.right) / 2, y: Self.height - 14, size: Self.fontSize, color: Self.ink)
    output.text(
      yLabel, x: 18, y: (frame.top + frame.bottom) / 2, size: Self.fontSize, color: Self.ink, isVertical: true)
  }

  private func drawLine(
    _ output: inout SVG, _ frame: Frame, _ x: Axis, _ y: Axis, _ points: [(x: Double, y: Double)], color: String,
    isMarked: Bool
  ) {
    var stretch: [(x: Double, y: Double)] = []
    func finish() {
      output.polyline(stretch, color: color)
      // A point between two gaps would be invisible as a line.
      if isMarked || stretch.count == 1 { for point in stretch { output.dot(point.x, point.y, color: color) } }
      stretch = []
    }
    for point in points {
      if let across = x.fraction(point.x), let up = y.fraction(point.y) {
        stretch.append((frame.x(across), frame.y(up)))
      } else {
        finish()
      }
    }
    finish()
  }
}

/// The rectangle that the lines are drawn in.
struct Frame: Sendable {
  let left: Double
  let top: Double
  let right: Double
  let bottom: Double

  func x(_ fraction: Double) -> Double { left + (right - left) * fraction }
  func y(_ fraction: Double) -> Double { bottom - (bottom - top) * fraction }
}

/// Where the names of the lines stand: in rows above the frame.
struct Legend: Sendable {
  private(set) var items: [(name: String, x: Double, y: Double)] = []
  /// Height that the rows take.
  let height: Double

  init(names: [String], width: Double) {
    var x = 0.0
    var y = 0.0
    for name in names {
      let shown = name.count > 60 ? name.prefix(59) + "…" : Substring(name)
      // An average letter of a proportional typeface is about 0.56 of its size wide.
      let needed = 26 + Double(shown.count) * LineChart.fontSize * 0.56 + 22
      if x > 0, x + needed > width { (x, y) = (0, y + 20) }
      items.append((String(shown), x, y))
      x += needed
    }
    height = names.isEmpty ? 0 : y + 24
  }
}

/// Fewer points with the same look.
enum Thinning {
  /// Divides the points into equal stretches and keeps the lowest and the highest of each, so that peaks stay visible;
  /// gaps stay too.
  static func thin(_ points: [(x: Double, y: Double)], to limit: Int) -> [(x: Double, y: Double)] {
    guard points.count > limit, limit >= 4 else { return points }
    var kept = [points[0]]
    let stretches = (limit - 2) / 2
    let inner = points.count - 2
    for index in 0..<stretches {
      let range = 1 + index * inner / stretches..<1 + (index + 1) * inner / stretches
      let finite = range.filter { points[$0].y.isFinite && points[$0].x.isFinite }
      guard let low = finite.min(by: { points[$0].y < points[$1].y }),
        let high = finite.max(by: { points[$0].y < points[$1].y })
      else {
        if let first = range.first { kept.append(points[first]) }
        continue
      }
      kept.append(points[min(low, high)])
      if low != high { kept.append(points[max(low, high)]) }
    }
    return kept + [points[points.count - 1]]
  }
}
