import Foundation
import Testing

@testable import FermataReports

@Suite struct HumanTests {
  @Test func bytes() {
    let cases = [
      (0, "0 B"), (1000, "1000 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1_048_575, "1.00 MiB"),
      (12_900_000, "12.3 MiB"), (-2048, "-2.00 KiB"),
    ]
    for (count, text) in cases { #expect(Human.bytes(count) == text) }
    #expect(Human.bytes(.max) == "8.00 EiB")
  }

  @Test func counts() {
    let cases: [(Double, String)] = [
      (0, "0"), (7, "7"), (0.5, "0.50"), (999, "999"), (999.7, "1.00k"), (12345, "12.3k"), (999_999, "1.00M"),
      (4e6, "4.00M"), (.nan, "NaN"),
    ]
    for (count, text) in cases { #expect(Human.count(count) == text) }
  }

  @Test func durations() {
    let cases: [(Double, String)] = [
      (0, "0.00 ms"), (0.0123, "12.3 ms"), (0.9999, "1.00 s"), (12.34, "12.3 s"), (59.96, "1:00"), (125, "2:05"),
      (3725, "1:02:05"),
      (86400 * 3 + 4 * 3600, "3 d 4 h"), (.infinity, "?"), (-1, "?"), (1e300, "over 30 years"),
    ]
    for (seconds, text) in cases { #expect(Human.duration(seconds: seconds) == text) }
  }
}

@Suite struct LineChartTests {
  private func chart(_ series: [LineChart.Series], _ scale: AxisScale = .linear) -> String {
    LineChart(
      title: "Loss <&> \"it's\"", xLabel: "step", yLabel: "bits/byte", xScale: scale, yScale: scale, series: series
    ).svg()
  }

  private func isWellFormed(_ text: String) throws -> Bool {
    // Every tag closed, in order; no bare ampersands.
    var open: [Substring] = []
    for tag in text.split(separator: "<").map({ $0.prefix { $0 != ">" } }) {
      if tag.hasPrefix("/") {
        guard open.popLast() == tag.dropFirst() else { return false }
      } else if !tag.hasSuffix("/") {
        open.append(tag.prefix { $0 != " " })
      }
    }
    return open.isEmpty && !text.replacing(/&(amp|lt|gt|quot|#39);/, with: "").contains("&")
  }

  @Test func isWellFormedWhateverIsDrawn() throws {
    let awkward: [[(x: Double, y: Double)]] = [
      [], [(0, 0)], [(1, 5), (2, 5)], [(0, .nan), (1, .infinity)], [(0, -1e308), (1, 1e308)],
      [(5, 1e-300), (5, 2e-300)],
      [(-3, -1), (0, 0), (1, 1e9)], [(1, 1), (2, .nan), (3, 2), (4, 3)],
    ]
    for scale in [AxisScale.linear, .logarithmic] {
      for points in awkward {
        let text = chart([LineChart.Series("<a> & \u{1}b", points)], scale)
        #expect(try isWellFormed(text))
        #expect(!text.contains("nan") && !text.contains("inf") && !text.contains("\u{1}"))
      }
    }
    #expect(try isWellFormed(chart([])))
    #expect(chart([]).contains("Loss &lt;&amp;&gt; &quot;it&#39;s&quot;"))
  }

  @Test func thinningKeepsPeaksEndsAndGaps() {
    var points = (0..<100_000).map { (x: Double($0), y: sin(Double($0) / 1000)) }
    points[54_321].y = 50
    for index in 70_000..<71_000 { points[index].y = .nan }
    let thinned = Thinning.thin(points, to: 1000)
    #expect(thinned.count <= 1000)
    #expect(thinned.contains { $0.y == 50 } && thinned.contains { $0.y.isNaN })
    #expect(thinned[0].x == 0 && thinned[thinned.count - 1].x == 99_999)
    #expect(zip(thinned, thinned.dropFirst()).allSatisfy { $0.x < $1.x })
  }

  @Test func ticks() {
    #expect(Axis([0.3, 9.7], scale: .linear).ticks == [0, 2, 4, 6, 8, 10])
    let tight = Axis([0, 1000], scale: .linear, isTight: true)
    #expect(tight.upper == 1000 && tight.ticks.contains(1000))
    #expect(Axis([1, 1e6], scale: .logarithmic).ticks == [1, 10, 100, 1000, 10_000, 100_000, 1e6])
    let axis = Axis([], scale: .linear)
    #expect(
      [0.5, -0.0 + 0, 20_000, 1_500_000, 0.00001, 1e20].map(axis.label) == [
        "0.5", "0", "20k", "1.5M", "1e-05", "1e+20",
      ])
  }

  @Test func terminal() {
    #expect(TerminalChart.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█")
    #expect(TerminalChart.sparkline([1, .nan, 1]) == "▅ ▅")
    #expect(TerminalChart.sparkline([]).isEmpty)
    #expect(TerminalChart.sparkline((0..<1000).map(Double.init), width: 8) == "▁▂▃▄▅▆▇█")
    #expect(TerminalChart.plot([3, 2, 1], height: 3) == "3.000 |*  \n      | * \n1.000 |  *\n")
    #expect(TerminalChart.plot([.nan]).isEmpty)
  }

  @Test func picture() throws {
    // Set FERMATA_PICTURE to a path to look at a chart.
    guard let path = ProcessInfo.processInfo.environment["FERMATA_PICTURE"] else { return }
    let train = (1...5000).map { (x: Double($0), y: 1.5 + 6.5 * exp(-Double($0) / 600) + 0.1 * sin(Double($0 * $0))) }
    let validation = stride(from: 250.0, through: 5000, by: 250).map { (x: $0, y: 1.7 + 6.3 * exp(-$0 / 600)) }
    var chart = LineChart(
      title: "hybrid, 3.1M parameters", xLabel: "step", yLabel: "bits per byte",
      series: [.init("training", train), .init("validation", validation, isMarked: true)])
    try chart.svg().write(toFile: path + "-linear.svg", atomically: true, encoding: .utf8)
    chart.xScale = .logarithmic
    chart.yScale = .logarithmic
    chart.series += (1...5).map { n in .init("a series with a long name \(n)", train.map { ($0.x, $0.y + Double(n)) }) }
    try chart.svg().write(toFile: path + "-log.svg", atomically: true, encoding: .utf8)
  }
}

@Suite struct ProgressLineTests {
  final class Screen {
    var text = ""
    var time = 0.0
    func output(isTerminal: Bool, hasColor: Bool = false, width: Int = 80) -> ProgressLine.Output {
      .init(
        isTerminal: isTerminal, hasColor: hasColor, width: { width }, write: { self.text += $0 }, now: { self.time })
    }
  }

  private func progress(_ step: Int) -> RunProgress {
    RunProgress(
      step: step, total: 100, loss: 1.23456, bitsPerByte: 1.781, tokensPerSecond: 12_345, secondsLeft: 65,
      peakMemory: 1 << 30)
  }

  @Test func plainLines() {
    let screen = Screen()
    let line = ProgressLine(output: screen.output(isTerminal: false), interval: 10, stepInterval: 50)
    for step in 1...100 {
      line.update(progress(step))
      screen.time += 0.3
    }
    line.finish()
    let lines = screen.text.split(separator: "\n")
    #expect(lines.map { $0.prefix { $0 != "/" } } == ["step 1", "step 35", "step 69", "step 100"])
    #expect(lines[0] == "step 1/100  loss 1.235  1.781 bits/byte  1:05 left  12.3k tokens/s  peak 1.00 GiB")
    #expect(!screen.text.contains("\u{1B}") && !screen.text.contains("\r"))
  }

  @Test func plainLinesBySteps() {
    let screen = Screen()
    let line = ProgressLine(output: screen.output(isTerminal: false), interval: 1000, stepInterval: 40)
    for step in 1...90 { line.update(progress(step)) }
    #expect(screen.text.split(separator: "\n").count == 3)
  }

  @Test func oneLineInATerminal() {
    let screen = Screen()
    let line = ProgressLine(output: screen.output(isTerminal: true), interval: 10, stepInterval: 1)
    for step in 1...99 {
      line.update(progress(step))
      screen.time += 0.01
    }
    line.message("saved")
    line.update(progress(100))
    line.finish()
    #expect(screen.text.count(where: { $0 == "\n" }) == 2)
    #expect(screen.text.count(where: { $0 == "\r" }) <= 12)
    #expect(screen.text.contains("\r\u{1B}[Ksaved\n"))
    #expect(screen.text.hasSuffix("\n"))
    #expect(!screen.text.contains("\u{1B}[36m"))
  }

  @Test(arguments: [0, 1, 5, 12, 20, 40, 80, 200])
  func fitsTheWindow(_ width: Int) {
    for total in [nil, 100, 0] {
      var progress = progress(37)
      progress.total = total
      let text = ProgressLine.line(progress, width: width, hasColor: false)
      #expect(text.count <= max(0, width - 1))
    }
    let bar = ProgressLine.line(progress(50), width: 200, hasColor: false)
    #expect(bar.hasPrefix(String(repeating: "█", count: 15) + String(repeating: "░", count: 15) + " step 50/100"))
    #expect(ProgressLine.line(progress(50), width: 200, hasColor: true).contains("\u{1B}[36m"))
  }

  @Test func colorIsLeftOutWhereUnwanted() {
    #expect(!ProgressLine.Output.standardError(environment: ["NO_COLOR": "1"]).hasColor)
    #expect(!ProgressLine.Output.standardError(environment: ["TERM": "dumb"]).isTerminal)
    #expect(ProgressLine.Output.standardError().width() > 0)
  }
}

@Suite struct JSONLinesTests {
  struct Entry: Codable, Equatable {
    var step: Int?
    var loss: Double
  }

  private func path() -> String { NSTemporaryDirectory() + "/fermata-log-\(UUID().uuidString).jsonl" }
  private func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

  @Test func appendsAndResumes() throws {
    let path = path()
    defer { unlink(path) }
    do {
      let log = try JSONLines(path)
      for step in 1...5 { try log.append(Entry(step: step, loss: 1 / Double(step))) }
      try log.append(Entry(step: nil, loss: .nan))
    }
    #expect(try text(path).hasSuffix("{\"loss\":0.2,\"step\":5}\n{\"loss\":\"nan\"}\n"))
    do {
      let log = try JSONLines(path, resumingAfter: 3)
      try log.append(Entry(step: 4, loss: 9))
    }
    #expect(
      try text(path).split(separator: "\n").map(String.init).suffix(2) == [
        "{\"loss\":0.3333333333333333,\"step\":3}", "{\"loss\":9,\"step\":4}",
      ])
    _ = try JSONLines(path)
    #expect(try text(path).split(separator: "\n").count == 4)
  }

  @Test func dropsAHalfLine() throws {
    let path = path()
    defer { unlink(path) }
    try "{\"step\":1}\n{\"note\":\"x\"}\n{\"step\":2}\n{\"st".write(toFile: path, atomically: true, encoding: .utf8)
    _ = try JSONLines(path, resumingAfter: 9)
    #expect(try text(path) == "{\"step\":1}\n{\"note\":\"x\"}\n{\"step\":2}\n")
    _ = try JSONLines(path, resumingAfter: 1)
    #expect(try text(path) == "{\"step\":1}\n{\"note\":\"x\"}\n")
    _ = try JSONLines(path, resumingAfter: 0)
    #expect(try text(path).isEmpty)
  }

  @Test func errors() throws {
    #expect(throws: LogError.self) { try JSONLines("/nonexistent/log.jsonl") }
    #expect(throws: LogError.self) { try JSONLines("/dev/full").append(["a": 1]) }
  }
}
