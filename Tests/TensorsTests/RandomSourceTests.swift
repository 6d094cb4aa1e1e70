import CFermataKernels
import FermataTestSupport
import Testing

@testable import FermataTensors

@Suite struct RandomSourceTests {
  /// Philox 4x32-10 in plain Swift, from the equations (Salmon et al. 2011).
  private static func philox(_ counter: [UInt32], _ key: [UInt32]) -> [UInt32] {
    var (c, k) = (counter, key)
    for _ in 0..<10 {
      let low = c[0].multipliedFullWidth(by: 0xD251_1F53)
      let high = c[2].multipliedFullWidth(by: 0xCD9E_8D57)
      c = [high.high ^ c[1] ^ k[0], high.low, low.high ^ c[3] ^ k[1], low.low]
      k = [k[0] &+ 0x9E37_79B9, k[1] &+ 0xBB67_AE85]
    }
    return c
  }

  /// The known answers that come with the authors' Random123.
  @Test func knownAnswers() throws {
    #expect(Self.philox([0, 0, 0, 0], [0, 0]) == [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8])
    let ones = [UInt32](repeating: .max, count: 4)
    #expect(Self.philox(ones, [.max, .max]) == [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd])
    #expect(
      Self.philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0])
        == [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1])
    try onEveryPath { path in
      var bits = [UInt32](repeating: 0, count: 70)
      fm_random_bits(0, 0, 0, &bits, 70)
      guard Array(bits.prefix(4)) == [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8] else {
        throw Mismatch("first bits \(bits.prefix(4))")
      }
      // Counter: block number, then stream; key: seed.
      let (seed, stream) = (UInt64(0x299f_31d0_a409_3822), UInt64(0x0370_7344_1319_8a2e))
      fm_random_bits(seed, stream, 40, &bits, 70)
      for block in 0..<17 {
        let expected = Self.philox([UInt32(10 + block), 0, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0])
        let got = Array(bits[4 * block..<4 * block + 4])
        guard got == expected else { throw Mismatch("block \(block): expected \(expected), got \(got)") }
      }
    }
  }

  @Test func slicesEqualTheWhole() throws {
    try withSteadyProcess {
      var source = RandomSource(seed: 5, stream: 9)
      let (uniform, normal) = (try source.uniform([999]).floats(), try RandomSource.normals(seed: 5, count: 999))
      for start in [0, 1, 2, 3, 64, 997] {
        for count in [1, 2, 65] where start + count <= 999 {
          var part = RandomSource(seed: 5, stream: 9, position: UInt64(start))
          #expect(try part.uniform([count]).floats() == Array(uniform[start..<start + count]))
          #expect(part.position == UInt64(start + count))
          guard start % 2 == 0 else { continue }
          #expect(try RandomSource.normals(seed: 5, count: count, at: start) == Array(normal[start..<start + count]))
        }
      }
      var single = RandomSource(seed: 5, stream: 9)
      #expect((0..<20).map { _ in single.nextUniform() } == Array(uniform.prefix(20)))
    }
  }

  @Test func seedsAndStreamsDiffer() throws {
    let draws = try [(1, 0), (2, 0), (1, 1), (1 << 40, 0), (1, 1 << 40)].map { seed, stream in
      var source = RandomSource(seed: UInt64(seed), stream: UInt64(stream))
      return try source.uniform([8]).floats()
    }
    for (index, draw) in draws.enumerated() { #expect(!draws.dropFirst(index + 1).contains(draw)) }
  }

  @Test func momentsAreRight() throws {
    let count = 200_000
    var source = RandomSource(seed: 3)
    let normal = try source.normal([count], deviation: 2).floats().map(Double.init)
    let mean = normal.reduce(0, +) / Double(count)
    let variance = normal.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count)
    let fourth = normal.reduce(0) { $0 + ($1 - mean) * ($1 - mean) * ($1 - mean) * ($1 - mean) } / Double(count)
    #expect(abs(mean) < 0.02 && abs(variance - 4) < 0.06 && abs(fourth / (variance * variance) - 3) < 0.06)
    let pairs = zip(normal, normal.dropFirst()).reduce(0) { $0 + $1.0 * $1.1 } / Double(count)
    #expect(abs(pairs / variance) < 0.01)
    let uniform = try source.uniform([count], -1, 3).floats()
    #expect(uniform.allSatisfy { $0 >= -1 && $0 < 3 })
    let average = uniform.reduce(0.0) { $0 + Double($1) } / Double(count)
    let spread = uniform.reduce(0.0) { $0 + (Double($1) - average) * (Double($1) - average) } / Double(count)
    #expect(abs(average - 1) < 0.01 && abs(spread - 16.0 / 12) < 0.02)
  }

  @Test func threadsDoNotMatter() throws {
    try expectThreadsDoNotMatter("random") {
      var source = RandomSource(seed: 11, stream: 2, position: 7)
      return [try source.uniform([100_003]), try source.normal([100_001])]
    }
  }
}

extension RandomSource {
  fileprivate static func normals(seed: UInt64, count: Int, at position: Int = 0) throws -> [Float] {
    var source = RandomSource(seed: seed, position: UInt64(position))
    return try source.normal([count]).floats()
  }
}
