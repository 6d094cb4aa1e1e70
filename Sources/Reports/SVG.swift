import Foundation

/// A writer of the few SVG elements that charts need.
struct SVG: Sendable {
  private(set) var text = ""

  mutating func open(width: Double, height: Double, title: String, font: Double) {
    text += "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(number(width)) \(number(height))\" "
    text += "width=\"\(number(width))\" height=\"\(number(height))\" role=\"img\" "
    text += "font-family=\"system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif\" font-size=\"\(number(font))\">\n"
    text += "<title>\(SVG.escaped(title))</title>\n"
  }

  mutating func close() { text += "</svg>\n" }

  mutating func line(
    _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, color: String, width: Double, opacity: Double = 1
  ) {
    text += "<line x1=\"\(number(x1))\" y1=\"\(number(y1))\" x2=\"\(number(x2))\" y2=\"\(number(y2))\" "
    text += "stroke=\"\(color)\" stroke-width=\"\(number(width))\""
    text += opacity < 1 ? " stroke-opacity=\"\(number(opacity))\"/>\n" : "/>\n"
  }

  /// Text, centred at `x` or with the given anchor.
  mutating func text(
    _ string: String, x: Double, y: Double, size: Double, color: String, anchor: String = "middle",
    weight: String? = nil, isVertical: Bool = false
  ) {
    text += "<text x=\"\(number(x))\" y=\"\(number(y))\" font-size=\"\(number(size))\" fill=\"\(color)\" "
    text += "text-anchor=\"\(anchor)\""
    if let weight { text += " font-weight=\"\(weight)\"" }
    if isVertical { text += " transform=\"rotate(-90 \(number(x)) \(number(y)))\"" }
    text += ">\(SVG.escaped(string))</text>\n"
  }

  mutating func polyline(_ points: [(x: Double, y: Double)], color: String) {
    guard points.count > 1 else { return }
    let list = points.map { "\(number($0.x)),\(number($0.y))" }.joined(separator: " ")
    text += "<polyline points=\"\(list)\" fill=\"none\" stroke=\"\(color)\" stroke-width=\"1.75\" "
    text += "stroke-linejoin=\"round\" stroke-linecap=\"round\"/>\n"
  }

  mutating func dot(_ x: Double, _ y: Double, color: String) {
    text += "<circle cx=\"\(number(x))\" cy=\"\(number(y))\" r=\"3\" fill=\"\(color)\"/>\n"
  }

  /// Text made safe between tags and in quotes; characters that XML forbids become spaces.
  static func escaped(_ string: String) -> String {
    var result = ""
    for scalar in string.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      case "\u{0}"..."\u{8}", "\u{B}", "\u{C}", "\u{E}"..."\u{1F}", "\u{FFFE}", "\u{FFFF}": result += " "
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private func number(_ value: Double) -> String {
    let rounded = String(format: "%.2f", value)
    guard rounded.contains(".") else { return rounded }
    var trimmed = Substring(rounded)
    while trimmed.last == "0" { trimmed.removeLast() }
    if trimmed.last == "." { trimmed.removeLast() }
    return trimmed == "-0" ? "0" : String(trimmed)
  }
}
