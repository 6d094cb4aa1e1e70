import Foundation

/// The table, in Markdown.
enum Report {
  static func text(_ results: [Result]) -> String {
    var lines: [String] = []
    for machine in distinct(results.map(\.machine)) {
      lines += heading(machine)
    }
    lines += [
      "",
      "| what | ours: median (least to most) | peer, its best mode | times the peer | of the machine's rate | reach | met "
        + "| other work |",
      "|---|---|---|---|---|---|---|---|",
    ]
    lines += results.map(line)
    lines += ["", "Checks that came first, as root mean square of the difference over that of the values:", ""]
    lines += results.filter { !$0.checks.isEmpty }.map { "- `\($0.name)`: " + $0.checks.joined(separator: "; ") }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func heading(_ machine: Machine) -> [String] {
    let products = machine.productRates.sorted { $0.key < $1.key }.map { "\($0.key) \(short($0.value / 1e9)) GFLOP/s" }
    return [
      "- \(machine.date), \(machine.processor), \(machine.threads) threads, path \(machine.path), features \(machine.features);"
        + " copy \(short(machine.copyRate / 1e9)) GB/s; products \(products.joined(separator: ", "))"
    ]
  }

  private static func distinct(_ machines: [Machine]) -> [Machine] {
    var seen = Set<String>()
    return machines.filter { seen.insert(heading($0).joined()).inserted }
  }

  private static func line(_ result: Result) -> String {
    let met = result.met.map { $0 ? "yes" : "**no**" } ?? "not said"
    var cells = [result.title]
    if let refused = result.refused {
      cells += ["refused: " + refused.replacingOccurrences(of: "|", with: "/"), "", "", "", result.goal, "**no**", ""]
    } else {
      cells += [
        result.ours.map { figure($0, result.unit) } ?? "",
        result.peer.map { figure($0, result.unit) + (result.peerMode.map { ", \($0)" } ?? "") } ?? "",
        result.ratio.map { short($0) } ?? "", result.shareOfMachine.map { "\(Int(($0 * 100).rounded()))%" } ?? "",
        result.goal, met, result.otherWork.map { "\(Int(($0 * 100).rounded()))%" } ?? "",
      ]
    }
    return "| " + cells.joined(separator: " | ") + " |"
  }

  private static func figure(_ shown: Result.Shown, _ unit: String) -> String {
    "\(short(shown.median)) \(unit) (\(short(shown.least)) to \(short(shown.most)))"
      .replacingOccurrences(of: "  ", with: " ")
  }

  /// Three significant digits, thousands parted.
  static func short(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return "\(value)" }
    if abs(value) < 1e-3 { return String(format: "%.1e", value) }
    let digits = max(0, 2 - Int(log10(abs(value)).rounded(.down)))
    if digits > 0 { return String(format: "%.\(digits)f", value) }
    let scale = pow(10, Double(Int(log10(abs(value))) - 3))
    let whole = Int((scale > 1 ? (value / scale).rounded() * scale : value.rounded()))
    var text = String(abs(whole))
    var index = text.count - 3
    while index > 0 {
      text.insert(",", at: text.index(text.startIndex, offsetBy: index))
      index -= 3
    }
    return (whole < 0 ? "-" : "") + text
  }
}
