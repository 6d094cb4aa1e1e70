import FermataTensors
import Foundation

/// Settings of a test run.
package enum TestRun {
  /// The seed that every test's random numbers start from: FERMATA_TEST_SEED, or 1.
  package static let seed: UInt64 =
    ProcessInfo.processInfo.environment["FERMATA_TEST_SEED"].flatMap { UInt64($0) } ?? 1

  /// Tests run on poisoned memory: reading what was never written gives NaN.
  package static func prepare() { poisoned }
  private static let poisoned: Void = { Memory.poisonsFreshMemory = true }()
}

/// Random numbers for one test (SplitMix64, Steele et al. 2014): they depend on the run's seed and the test's name alone.
/// Independent of the library's own generator, which is itself under test.
package struct TestRandom: RandomNumberGenerator {
  private var state: UInt64

  package init(_ name: String = #function) {
    TestRun.prepare()
    // FNV-1a: the standard library's hash changes from run to run.
    state =
      name.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
      ^ (TestRun.seed &* 0x9e37_79b9)
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  package mutating func int(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
  package mutating func chance(_ probability: Double) -> Bool { Double.random(in: 0..<1, using: &self) < probability }

  /// A standard normal number, by Box and Muller.
  package mutating func normal() -> Double {
    let radius = (-2 * Foundation.log(1 - Double.random(in: 0..<1, using: &self))).squareRoot()
    return radius * Foundation.cos(2 * Double.pi * Double.random(in: 0..<1, using: &self))
  }

  /// Normal numbers, rounded to the type.
  package mutating func tensor(_ shape: [Int], _ dtype: DType = .float32, deviation: Double = 1, mean: Double = 0)
    throws
    -> Tensor
  {
    let values = (0..<shape.reduce(1, *)).map { _ in Float(mean + deviation * normal()) }
    return try Tensor(values, shape: shape).cast(to: dtype)
  }

  /// Uniform numbers in low..<high.
  package mutating func uniform(_ shape: [Int], _ low: Float, _ high: Float, _ dtype: DType = .float32) throws -> Tensor
  {
    let values = (0..<shape.reduce(1, *)).map { _ in Float.random(in: low..<high, using: &self) }
    return try Tensor(values, shape: shape).cast(to: dtype)
  }

  /// Whole numbers in a range, in any type that holds them exactly.
  package mutating func integers(_ shape: [Int], _ range: ClosedRange<Int>, _ dtype: DType = .int32) throws -> Tensor {
    let values = (0..<shape.reduce(1, *)).map { _ in Int32(int(range)) }
    return try Tensor(values, shape: shape).cast(to: dtype)
  }

  /// U8 ones with this probability.
  package mutating func flags(_ shape: [Int], probability: Double) throws -> Tensor {
    let values = (0..<shape.reduce(1, *)).map { _ in UInt8(chance(probability) ? 1 : 0) }
    return try Tensor(values, shape: shape)
  }
}

/// The nearest bf16 number, ties to even.
package func roundedToBF16(_ value: Float) -> Float {
  if value.isNaN { return value }
  let bits = value.bitPattern
  return Float(bitPattern: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) & 0xffff_0000)
}
