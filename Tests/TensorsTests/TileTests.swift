import CFermataKernels
import FermataTestSupport
import Testing

/// Products of bf16 tiles, in the emulation of AMX's instructions and, where the processor has them, in the instructions.
@Suite struct TileTests {
  private static func onTilePaths(_ body: (fm_tiles) throws -> Void) throws {
    defer { fm_override(-1, 0) }
    for path in [FM_AMX, FM_AMX_EMULATED].map({ Int32($0.rawValue) }) where fm_has_path(path) != 0 {
      fm_override(path, 0)
      let tiles = try #require(fm_tiles_in_use()).pointee
      try body(tiles)
      tiles.release()
    }
  }

  private static func bits(_ low: Float, _ high: Float) -> Float {
    Float(bitPattern: low.bitPattern >> 16 | high.bitPattern & 0xffff_0000)
  }

  /// The product in f64, from values that bf16 holds.
  @Test func everySizeAndTail() throws {
    try Self.onTilePaths { tiles in
      var random = TestRandom("tiles")
      for (rows, columns, depth) in [
        (1, 16, 1), (16, 16, 16), (17, 48, 15), (32, 32, 32), (33, 16, 17), (48, 64, 33), (64, 64, 31), (5, 32, 47),
      ] {
        let roof = (rows + 15) / 16 * 16
        let (aPitch, bPitch, cPitch) = (depth + 3, columns + 16, columns)
        let left = (0..<rows * 2 * depth).map { _ in roundedToBF16(Float(random.normal())) }
        let right = (0..<2 * depth * columns).map { _ in roundedToBF16(Float(random.normal())) }
        // What lies outside of the operands is NaN; rows up to a multiple of 16 are read all the same.
        var a = [Float](repeating: .nan, count: roof * aPitch), b = [Float](repeating: .nan, count: depth * bPitch)
        for m in 0..<rows {
          for k in 0..<depth { a[m * aPitch + k] = Self.bits(left[(m * depth + k) * 2], left[(m * depth + k) * 2 + 1]) }
        }
        for k in 0..<depth {
          for n in 0..<columns {
            b[k * bPitch + n] = Self.bits(right[2 * k * columns + n], right[(2 * k + 1) * columns + n])
          }
        }
        for adds in [false, true] {
          var c = [Float](repeating: adds ? 2 : .nan, count: roof * cPitch)
          tiles.product(
            Int64(rows), Int64(columns), Int64(depth), a, Int64(aPitch), b, Int64(bPitch), &c, Int64(cPitch),
            adds ? 1 : 0)
          var expected = [Double](repeating: adds ? 2 : 0, count: rows * columns)
          for m in 0..<rows {
            for k in 0..<2 * depth {
              let factor = Double(left[m * 2 * depth + k])
              for n in 0..<columns { expected[m * columns + n] += factor * Double(right[k * columns + n]) }
            }
          }
          try expectClose(
            c.prefix(rows * columns).map(Double.init), expected, .product(.float32),
            "\(rows)×\(depth)×\(columns) adds \(adds)")
        }
      }
    }
  }

  /// Even and odd products have sums of their own, which are added before they meet the old sum; denormals are zeros.
  @Test func sumsAsTheInstructionDoes() throws {
    func one(_ tiles: fm_tiles, _ x: [(Float, Float)], _ y: [(Float, Float)], old: Float) -> Float {
      var a = [Float](repeating: 0, count: 16 * 16), b = a, c = a
      for (k, (left, right)) in zip(x, y).enumerated() {
        a[k] = Self.bits(left.0, left.1)
        b[16 * k] = Self.bits(right.0, right.1)
      }
      c[0] = old
      tiles.product(1, 16, Int64(x.count), a, 16, b, 16, &c, 16, 1)
      return c[0]
    }
    let large: Float = 16_777_216  // 2^24: adding one to it is lost
    try Self.onTilePaths { tiles in
      #expect(one(tiles, [(large, 1), (-large, 1)], [(1, 1), (1, 1)], old: 0) == 2)
      #expect(one(tiles, [(large, 1), (1, 0), (-large, 0)], [(1, 1), (1, 1), (1, 1)], old: 0) == 1)
      #expect(one(tiles, [(1, 1)], [(1, 1)], old: large) == large + 2)
      let tiny = Float(bitPattern: 0x0040_0000)
      #expect(one(tiles, [(tiny, 0)], [(large, 0)], old: 0) == 0)
      #expect(one(tiles, [(0, 0)], [(0, 0)], old: tiny) == 0)
      #expect(one(tiles, [(.infinity, 0)], [(2, 0)], old: 1) == .infinity)
      #expect(one(tiles, [(.infinity, 0)], [(0, 0)], old: 1).isNaN)
    }
  }
}
