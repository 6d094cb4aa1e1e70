import Foundation

/// Numbers as people read them: three significant digits and a unit.
public enum Human {
  /// "512 B", "1.50 KiB", "12.3 MiB".
  public static func bytes(_ count: Int) -> String {
    var value = Double(count)
    var units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][...]
    // Not 1024: what would be rounded up to it belongs to the next unit.
    while abs(value) >= 1023.5, units.count > 1 {
      value /= 1024
      units.removeFirst()
    }
    return (units.first == "B" ? "\(count)" : threeDigits(value)) + " " + (units.first ?? "B")
  }

  /// "999", "12.3k", "4.00M", "1.20G", for counts of tokens, parameters, operations.
  public static func count(_ count: Double) -> String {
    var value = count
    var units = ["", "k", "M", "G", "T", "P", "E"][...]
    while abs(value) >= 999.5, units.count > 1 {
      value /= 1000
      units.removeFirst()
    }
    let isWhole = units.first == "" && value == value.rounded()
    return (isWhole ? fixed(value, 0) : threeDigits(value)) + (units.first ?? "")
  }

  /// "999", "12.3k", "4.00M".
  public static func count(_ count: Int) -> String { Human.count(Double(count)) }

  /// "850 ms", "12.3 s", "2:05" (minutes), "1:02:05" (hours), "3 d 4 h".
  public static func duration(seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0 else { return "?" }
    if seconds < 0.9995 { return threeDigits(seconds * 1000) + " ms" }
    if seconds < 59.95 { return threeDigits(seconds) + " s" }
    guard seconds < 1e9 else { return "over 30 years" }
    let whole = Int(seconds.rounded())
    let (days, hours, minutes) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60)
    if days > 0 { return "\(days) d \(hours) h" }
    let tail = twoDigits(whole % 60)
    return hours > 0 ? "\(hours):\(twoDigits(minutes)):\(tail)" : "\(minutes):\(tail)"
  }

  /// A number with a fixed count of decimals, with a point in every locale.
  public static func fixed(_ value: Double, _ decimals: Int) -> String {
    value.isFinite ? String(format: "%.\(max(0, decimals))f", value) : (value.isNaN ? "NaN" : value < 0 ? "-∞" : "∞")
  }

  private static func threeDigits(_ value: Double) -> String {
    let size = abs(value)
    return fixed(value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0)
  }

  private static func twoDigits(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
}
