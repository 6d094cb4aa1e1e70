import Foundation

/// What came of a row: one line of the table, kept as a file of its own so that rows may be run at different times.
struct Result: Codable {
  var name: String
  var title: String
  var unit: String
  /// Why there is no figure.
  var refused: String?
  /// Medians and extremes in the unit of the table.
  var ours: Shown?
  var peer: Shown?
  var peerMode: String?
  /// How many times as fast (or as small) as the peer.
  var ratio: Double?
  var shareOfMachine: Double?
  /// The part of the processors that others used meanwhile, the machine's owner included.
  var otherWork: Double?
  var goal = ""
  var met: Bool?
  var checks: [String] = []
  var machine: Machine

  struct Shown: Codable {
    var median: Double
    var least: Double
    var most: Double

    init(_ series: Series, _ quantity: Quantity) {
      median = quantity.shown(series.median)
      let ends = [quantity.shown(series.least), quantity.shown(series.most)]
      (least, most) = (min(ends[0], ends[1]), max(ends[0], ends[1]))
    }
  }

  init(_ row: any Row, machine: Machine) {
    (name, title, unit) = (row.name, row.title, row.quantity.unit)
    goal = row.goal.text(row.quantity)
    self.machine = machine
  }

  private static func file(_ name: String, in folder: String) -> URL {
    URL(fileURLWithPath: folder).appendingPathComponent(name + ".json")
  }

  func save(in folder: String) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    try encoder.encode(self).write(to: Self.file(name, in: folder), options: .atomic)
  }

  static func load(_ name: String, from folder: String) -> Result? {
    guard let data = try? Data(contentsOf: file(name, in: folder)) else { return nil }
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try? decoder.decode(Result.self, from: data)
  }
}

extension Goal {
  func text(_ quantity: Quantity) -> String {
    switch self {
    case .timesPeer(let factor): "\(factor)× the peer"
    case .shareOfMachine(let share): "\(Int(share * 100))% of the machine"
    case .atMost(let bound): "at most \(bound) \(quantity.unit)".trimmingCharacters(in: .whitespaces)
    case .all(let goals): goals.map { $0.text(quantity) }.joined(separator: " and ")
    case .any(let goals): goals.map { $0.text(quantity) }.joined(separator: " or ")
    }
  }

  /// nil where it cannot be said, as without the peer.
  func isMet(_ result: Result) -> Bool? {
    switch self {
    case .timesPeer(let factor): return result.ratio.map { $0 >= factor }
    case .shareOfMachine(let share): return result.shareOfMachine.map { $0 >= share }
    case .atMost(let bound): return result.ours.map { $0.median <= bound }
    case .all(let goals):
      let answers = goals.map { $0.isMet(result) }
      return answers.contains(false) ? false : answers.contains(nil) ? nil : true
    case .any(let goals):
      let answers = goals.map { $0.isMet(result) }
      return answers.contains(true) ? true : answers.contains(nil) ? nil : false
    }
  }
}
