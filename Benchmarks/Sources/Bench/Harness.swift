import Fermata
import Foundation

/// Runs rows: checks first, then samples of ours and of the peer in turn.
struct Harness {
  let machine: Machine
  /// A Python virtual environment with the peers; nil: ours alone.
  let peers: String?
  let scripts: String
  let rounds: Int

  func run(_ row: any Row) -> Result {
    var result = Result(row, machine: machine)
    do {
      try measure(row, &result)
    } catch {
      result.refused = "\(error)"
    }
    return result
  }

  private func measure(_ row: any Row, _ result: inout Result) throws {
    ProcessorLoad.awaitQuiet()
    let subject = try row.prepare()
    try require(subject.checks, &result)
    var peer: (process: Peer, mode: String)?
    if let program = row.peer, let peers {
      let process = try Peer(program, environment: peers, scripts: scripts, threads: machine.threads)
      let mode = try bestMode(process)
      peer = (process, mode)
      try require(comparisons(process, mode, subject), &result)
    }
    var (ourCount, peerCount) = (1, 1)
    if row.quantity.isTime {
      _ = try subject.sample()
      ourCount = try repetitions { _ = try subject.sample() }
      if let peer { peerCount = try repetitions { _ = try peer.process.sample(peer.mode, repetitions: 1) } }
    }
    if case .factor = row.quantity { _ = try subject.sample() }
    var (ours, theirs) = (Series(samples: []), Series(samples: []))
    let load = ProcessorLoad(peer: peer?.process.identifier)
    for _ in 0..<row.quantity.rounds(rounds) {
      ours.samples.append(try sample(subject, ourCount))
      if let peer {
        settle()
        theirs.samples.append(try peer.process.sample(peer.mode, repetitions: peerCount))
        settle()
      }
    }
    result.otherWork = load.others
    result.ours = .init(ours, row.quantity)
    if let peer {
      result.peer = .init(theirs, row.quantity)
      result.peerMode = peer.mode
      result.ratio = theirs.median / ours.median
    }
    result.shareOfMachine = row.work.map { machine.share(of: $0, in: ours.median) }
    result.met = row.goal.isMet(result)
  }

  /// Refuses the row when a result is wrong.
  private func require(_ checks: [Check], _ result: inout Result) throws {
    for check in checks {
      let text = "\(check.what): off by \(Report.short(check.error)), allowed \(Report.short(check.allowed))"
      result.checks.append(text)
      if !check.holds { throw BenchError("no speed, because the check fails: " + text) }
    }
  }

  /// The peer's results on our inputs against ours.
  private func comparisons(_ peer: Peer, _ mode: String, _ subject: Subject) throws -> [Check] {
    if subject.expected.isEmpty { return [] }
    let found = try peer.results(mode, subject.inputs)
    return try subject.expected.map { name, value, allowed in
      guard let theirs = found[name] else { throw BenchError("the peer has no result '\(name)'") }
      return try Check("\(name) beside the peer's", value.cast(to: .float32), theirs, allowed: allowed)
    }
  }

  /// The mode with the least of three samples; a mode that fails is said and left out.
  private func bestMode(_ peer: Peer) throws -> String {
    var best: (mode: String, sample: Double)?
    for mode in try peer.modes() {
      do {
        // The first makes what is made once, as compiling.
        _ = try peer.sample(mode, repetitions: 1)
        let least = try (0..<3).map { _ in try peer.sample(mode, repetitions: 1) }.min() ?? .infinity
        if least < best?.sample ?? .infinity { best = (mode, least) }
      } catch {
        FileHandle.standardError.write(Data("peer mode '\(mode)' left out: \(error)\n".utf8))
      }
    }
    guard let best else { throw BenchError("no mode of the peer works") }
    return best.mode
  }

  private func sample(_ subject: Subject, _ count: Int) throws -> Double {
    _ = count > 1 ? try subject.sample() : 0
    return try (0..<count).reduce(0) { sum, _ in sum + (try subject.sample()) } / Double(count)
  }

  /// How many repetitions make a sample of about a fifth of a second.
  private func repetitions(_ body: () throws -> Void) rethrows -> Int {
    let once = try seconds(body)
    return max(1, min(200, Int(0.2 / max(once, 1e-6))))
  }

  /// Threads that wait for their next work spin for a while; the other side begins when they sleep.
  private func settle() { Thread.sleep(forTimeInterval: 0.05) }
}
