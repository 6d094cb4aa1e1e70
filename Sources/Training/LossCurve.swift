import FermataFiles
import FermataReports
import Foundation

/// The curve of a run. Points are kept here as steps come, so that drawing it costs the same late in a run as early.
struct LossCurve {
  /// A line of at most `limit` points: when it is full, neighbours are replaced by their mean, and from then on each point
  /// is the mean of twice as many values.
  struct Line {
    static let limit = 2048
    private(set) var points: [(x: Double, y: Double)] = []
    private var perPoint = 1
    private var pending = (x: 0.0, y: 0.0, count: 0)

    /// Values that are not finite are left out: one would hide all others of its mean.
    mutating func add(_ x: Double, _ y: Double) {
      guard y.isFinite else { return }
      pending = (pending.x + x, pending.y + y, pending.count + 1)
      guard pending.count == perPoint else { return }
      points.append((pending.x / Double(perPoint), pending.y / Double(perPoint)))
      pending = (0, 0, 0)
      guard points.count == Self.limit else { return }
      let full = points
      points = []
      for index in stride(from: 0, to: full.count, by: 2) {
        let (first, second) = (full[index], full[index + 1])
        points.append((x: (first.x + second.x) / 2, y: (first.y + second.y) / 2))
      }
      perPoint *= 2
    }
  }

  private(set) var training = Line()
  private(set) var validation = Line()

  private struct Entry: Decodable {
    var step: Int
    var bits_per_byte: Double?
    var validation_bits_per_byte: Double?
  }

  /// What a log holds so far; lines that are none of a run's are left out.
  init(log: String) {
    guard let data = FileManager.default.contents(atPath: log) else { return }
    let decoder = JSONDecoder()
    for line in data.split(separator: UInt8(ascii: "\n")) {
      guard let entry = try? decoder.decode(Entry.self, from: line) else { continue }
      if let bits = entry.bits_per_byte { training.add(Double(entry.step), bits) }
      if let bits = entry.validation_bits_per_byte { validation.add(Double(entry.step), bits) }
    }
  }

  mutating func addTraining(step: Int, bits: Double) { training.add(Double(step), bits) }
  mutating func addValidation(step: Int, bits: Double) { validation.add(Double(step), bits) }

  func write(to path: String) throws {
    var chart = LineChart(title: "Training", xLabel: "step", yLabel: "bits per byte")
    chart.series = [.init("training", training.points), .init("validation", validation.points, isMarked: true)]
    try AtomicFile.write(Data(chart.svg().utf8), to: path)
  }
}
