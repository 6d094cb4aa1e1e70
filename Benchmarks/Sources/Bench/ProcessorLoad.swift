import Foundation

/// How busy others kept the processors while something was measured.
struct ProcessorLoad {
  private let peer: Int32?
  private let start = ContinuousClock.now
  private let busy: Double
  private let own: Double

  init(peer: Int32?) {
    self.peer = peer
    (busy, own) = (Self.busySeconds(), Self.ownSeconds(peer))
  }

  /// The part of all processors' time since then that neither we nor the peer used; time the host took away counts.
  var others: Double {
    let elapsed = start.duration(to: .now).components
    let available =
      (Double(elapsed.seconds) + Double(elapsed.attoseconds) * 1e-18) * Double(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    return max(0, (Self.busySeconds() - busy) - (Self.ownSeconds(peer) - own)) / available
  }

  /// Waits, for a minute at most, until others have left the processors alone for half a second.
  static func awaitQuiet() {
    for _ in 0..<120 {
      let load = ProcessorLoad(peer: nil)
      Thread.sleep(forTimeInterval: 0.5)
      if load.others < 0.05 { return }
    }
  }

  private static var ticks: Double { Double(sysconf(Int32(_SC_CLK_TCK))) }

  /// Everything but idle and waiting, over all processors.
  private static func busySeconds() -> Double {
    let line = fields("/proc/stat").prefix { $0 != "cpu0" }
    let counts = line.dropFirst().compactMap { Double($0) }
    return counts.enumerated().reduce(0) { [3, 4].contains($1.offset) || $1.offset > 7 ? $0 : $0 + $1.element } / ticks
  }

  private static func ownSeconds(_ peer: Int32?) -> Double {
    processSeconds("self") + (peer.map { processSeconds("\($0)") } ?? 0)
  }

  /// User and system time of a process and of its children that have ended.
  private static func processSeconds(_ identifier: String) -> Double {
    let text = fields("/proc/\(identifier)/stat")
    guard let name = text.lastIndex(where: { $0.hasSuffix(")") }), text.count > name + 15 else { return 0 }
    return text[(name + 12)...(name + 15)].compactMap { Double($0) }.reduce(0, +) / ticks
  }

  private static func fields(_ path: String) -> [Substring] {
    ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").split(whereSeparator: \.isWhitespace)
  }
}
