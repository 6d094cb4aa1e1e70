import FermataFiles
import FermataReports
import Foundation

/// The curve of a run, drawn from its log.
enum LossCurve {
  private struct Line: Decodable {
    var step: Int
    var bits_per_byte: Double?
    var validation_bits_per_byte: Double?
  }

  static func write(log: String, to path: String) throws {
    guard let data = FileManager.default.contents(atPath: log) else { return }
    let lines = data.split(separator: UInt8(ascii: "\n")).compactMap { try? JSONDecoder().decode(Line.self, from: $0) }
    var chart = LineChart(title: "Training", xLabel: "step", yLabel: "bits per byte")
    chart.series = [
      .init("training", lines.compactMap { line in line.bits_per_byte.map { (Double(line.step), $0) } }),
      .init(
        "validation", lines.compactMap { line in line.validation_bits_per_byte.map { (Double(line.step), $0) } },
        isMarked: true),
    ]
    try AtomicFile.write(Data(chart.svg().utf8), to: path)
  }
}
