import CFermataKernels
import FermataTestSupport
import Foundation
import Testing

@testable import FermataTensors

@Suite struct ElementwiseTests {
  private static let shapes: [([Int], [Int])] = [
    ([], []), ([1], []), ([7], [7]), ([65], [1]), ([1, 100], [63, 1]), ([3, 1, 5], [2, 1]), ([2, 3, 4], [4]),
    ([2, 3, 4], [2, 1, 4]), ([0, 3], [1, 3]), ([4, 0], [1]), ([1, 1, 300], [1, 300]), ([5, 1, 1, 3], [1, 2, 4, 1]),
  ]

  @Test(arguments: DType.allCases) func arithmeticBroadcasts(_ dtype: DType) throws {
    var random = TestRandom("arithmeticBroadcasts \(dtype)")
    typealias Operation = (name: String, code: fm_binary, expected: (Double, Double) -> Double)
    var operations: [Operation] = [
      ("+", FM_ADD, { $0 + $1 }), ("*", FM_MULTIPLY, { $0 * $1 }), ("maximum", FM_MAXIMUM, { max($0, $1) }),
      ("minimum", FM_MINIMUM, { min($0, $1) }),
    ]
    if dtype != .uint8 {
      operations.append(("-", FM_SUBTRACT, { $0 - $1 }))
      operations.append(("/", FM_DIVIDE, { dtype.isFloatingPoint ? $0 / $1 : ($0 / $1).rounded(.towardZero) }))
    }
    func rounded(_ value: Double) -> Double {
      dtype == .bfloat16 ? Double(roundedToBF16(Float(value))) : dtype == .float32 ? Double(Float(value)) : value
    }
    try onEveryPath { path in
      for (a, b) in Self.shapes {
        let x = dtype.isFloatingPoint ? try random.tensor(a, dtype) : try random.integers(a, 1...9, dtype)
        let y = dtype.isFloatingPoint ? try random.uniform(b, 0.5, 3, dtype) : try random.integers(b, 1...9, dtype)
        for (name, code, expected) in operations {
          let result = try Tensor.binary(code, name, x, y)
          let (p, q) = (try Naive(x).broadcast(to: result.shape), try Naive(y).broadcast(to: result.shape))
          let values = zip(p.values, q.values).map { rounded(expected($0, $1)) }
          #expect(result.dtype == dtype)
          try expectClose(result, Naive(result.shape, values), .exact, "\(a) \(name) \(b) \(dtype)")
        }
      }
    }
  }

  @Test(arguments: DType.allCases) func comparisonsAndSelection(_ dtype: DType) throws {
    var random = TestRandom("comparisons \(dtype)")
    for (a, b) in Self.shapes {
      let (x, y) = (try random.integers(a, 0...2, dtype), try random.integers(b, 0...2, dtype))
      let results = [try x .== y, try x .!= y, try x .< y, try x .<= y]
      let (p, q) = (try Naive(x).broadcast(to: results[0].shape), try Naive(y).broadcast(to: results[0].shape))
      let oracles: [(Double, Double) -> Bool] = [{ $0 == $1 }, { $0 != $1 }, { $0 < $1 }, { $0 <= $1 }]
      for (result, oracle) in zip(results, oracles) {
        #expect(try result.values(as: UInt8.self) == zip(p.values, q.values).map { oracle($0, $1) ? 1 : 0 })
      }
      let chosen = try Tensor.selecting(results[2], x, y)
      try expectClose(chosen, Naive(p.shape, zip(p.values, q.values).map { min($0, $1) }), .exact, "\(a) \(b)")
      let strided = try Tensor.selecting(results[2].expanded(at: 0).broadcast(to: [2] + p.shape), x, y)
      try expectClose(
        strided, Naive([2] + p.shape, chosen.cast(to: .float32).floats().map(Double.init) + Naive(chosen).values))
    }
    if dtype.isFloatingPoint {
      let nan = try Tensor([Float.nan, 1]).cast(to: dtype)
      #expect(try (nan .== nan).values(as: UInt8.self) == [0, 1])
      #expect(try (nan .!= nan).values(as: UInt8.self) == [1, 0])
    }
  }

  @Test func integersWrapAndDivideByZero() throws {
    let x = try Tensor([Int32.max, .min, 7], shape: [3])
    let y = try Tensor([Int32(1), -1, 0], shape: [3])
    #expect(try (x + y).values(as: Int32.self) == [.min, .max, 7])
    #expect(try (x / y).values(as: Int32.self) == [.max, .min, 0])
  }

  @Test func numbersTakeTheTensorsType() throws {
    for dtype in [DType.float32, .bfloat16] {
      let x = try Tensor([1, -2, 4, 0.5]).cast(to: dtype)
      let results = [
        try x + 2, try 2 + x, try x - 2, try 2 - x, try x * 2, try 2 * x, try x / 2, try 2 / x, try -x,
      ]
      let expected: [[Float]] = [
        [3, 0, 6, 2.5], [3, 0, 6, 2.5], [-1, -4, 2, -1.5], [1, 4, -2, 1.5], [2, -4, 8, 1], [2, -4, 8, 1],
        [0.5, -1, 2, 0.25], [2, -1, 0.5, 4], [-1, 2, -4, -0.5],
      ]
      for (result, values) in zip(results, expected) {
        #expect(result.dtype == dtype)
        #expect(try result.floats() == values)
      }
    }
  }

  private struct Function: Sendable {
    var name: String
    var code: fm_unary
    var range: ClosedRange<Double> = -12...12
    var expected: @Sendable (Double) -> Double
    /// What counts for the error where the function itself nears zero.
    var size: @Sendable (Double) -> Double = { _ in 0 }
  }

  private static let functions: [Function] = [
    Function(name: "negate", code: FM_NEGATE) { -$0 }, Function(name: "absolute", code: FM_ABSOLUTE) { abs($0) },
    Function(name: "exp", code: FM_EXP, range: -85...85) { exp($0) },
    Function(name: "log", code: FM_LOG, range: 1e-6...1e6) { log($0) },
    Function(name: "log1p", code: FM_LOG1P, range: -0.9...100) { log1p($0) },
    Function(name: "sqrt", code: FM_SQRT, range: 0...1e6) { $0.squareRoot() },
    Function(name: "reciprocalSquareRoot", code: FM_RECIPROCAL_SQRT, range: 1e-6...1e6) { 1 / $0.squareRoot() },
    Function(name: "reciprocal", code: FM_RECIPROCAL, range: 0.01...50) { 1 / $0 },
    Function(name: "squared", code: FM_SQUARE) { $0 * $0 },
    Function(name: "sigmoid", code: FM_SIGMOID, range: -60...60) { 1 / (1 + exp(-$0)) },
    Function(name: "logSigmoid", code: FM_LOG_SIGMOID, range: -60...60) {
      $0 < 0 ? $0 - log1p(exp($0)) : -log1p(exp(-$0))
    },
    Function(name: "tanh", code: FM_TANH) { tanh($0) },
    Function(name: "silu", code: FM_SILU) { $0 / (1 + exp(-$0)) },
    Function(name: "softplus", code: FM_SOFTPLUS, range: -60...60) { max($0, 0) + log1p(exp(-abs($0))) },
    Function(name: "relu", code: FM_RELU) { max($0, 0) },
    Function(
      name: "gelu", code: FM_GELU, range: -6...6, expected: { 0.5 * $0 * erfc(-$0 / 2.0.squareRoot()) },
      size: { abs($0) }),
    Function(
      name: "geluTanh", code: FM_GELU_TANH, range: -6...6,
      expected: { 0.5 * $0 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) },
      size: { abs($0) }),
    Function(name: "sine", code: FM_SINE, range: -100...100, expected: { sin($0) }, size: { _ in 1 }),
    Function(name: "cosine", code: FM_COSINE, range: -100...100, expected: { cos($0) }, size: { _ in 1 }),
    Function(name: "sign", code: FM_SIGN) { $0 > 0 ? 1 : $0 < 0 ? -1 : 0 },
    Function(name: "erf", code: FM_ERF, range: -5...5) { erf($0) },
    Function(
      name: "siluSlope", code: FM_SILU_SLOPE, range: -60...60,
      expected: { x in
        if abs(x) > 700 { return x > 0 ? 1 : 0 }
        let s = 1 / (1 + exp(-x))
        return s + x * s * (1 - s)
      }, size: { _ in 1 }),
    Function(name: "eluPlusOne", code: FM_ELU_PLUS_ONE, range: -60...60) { $0 > 0 ? $0 + 1 : exp($0) },
    Function(name: "eluPlusOneSlope", code: FM_ELU_PLUS_ONE_SLOPE, range: -60...60) { $0 > 0 ? 1 : exp($0) },
    Function(
      name: "geluSlope", code: FM_GELU_SLOPE, range: -6...6,
      expected: { x in
        if abs(x) > 40 { return x > 0 ? 1 : 0 }
        return 0.5 * erfc(-x / 2.0.squareRoot()) + x * exp(-x * x / 2) / (2 * Double.pi).squareRoot()
      }, size: { _ in 1 }),
  ]

  /// f32 within 1e-6 of the value (a few ulps), bf16 within one rounding, on every path and odd counts.
  @Test func unaryFunctions() throws {
    var random = TestRandom()
    try onEveryPath { path in
      for function in Self.functions {
        for dtype in [DType.float32, .bfloat16] {
          for count in [1, 3, 17, 1000] {
            let (low, high) = (Float(function.range.lowerBound), Float(function.range.upperBound))
            let x = try random.uniform([count], low, high, dtype)
            let y = try Tensor.unary(function.code, function.name, x)
            for (input, output) in zip(try x.floats(), try y.floats()) {
              let exact = function.expected(Double(input))
              let size = max(abs(exact), function.size(Double(input)))
              let error = abs(Double(output) - exact)
              let allowed = dtype == .float32 ? 1e-6 * size + 1e-37 : abs(exact) / 255.9 + 1e-6 * size + 1e-37
              guard error <= allowed else {
                throw Mismatch(
                  "\(function.name)(\(input)) in \(dtype): expected \(exact), got \(output), relative error \(error / size)"
                )
              }
            }
          }
        }
      }
    }
  }

  /// Zeros, infinities, NaN and huge numbers give what Foundation gives.
  @Test func specialValues() throws {
    let inputs: [Float] = [0, -0.0, .infinity, -.infinity, .nan, 88, -88, 104, -104, 1e-30, -1e-30, 1e30, -1e30]
    try onEveryPath { path in
      for function in Self.functions {
        let x = try Tensor(inputs)
        let y = try Tensor.unary(function.code, function.name, x).floats()
        for (input, output) in zip(inputs, y) {
          if abs(input) > 1e4 && ["sine", "cosine"].contains(function.name) { continue }
          if !input.isFinite && ["gelu", "geluTanh", "silu", "sign"].contains(function.name) { continue }
          let expected = Float(function.expected(Double(input)))
          let near = abs(output - expected) <= 2e-6 * max(abs(expected), Float(function.size(Double(input)))) + 1.2e-38
          guard output == expected || (output.isNaN && expected.isNaN) || near else {
            throw Mismatch("\(function.name)(\(input)): expected \(expected), got \(output)")
          }
        }
      }
    }
  }

  @Test func nonFiniteNumbersAreFound() throws {
    for dtype in [DType.float32, .bfloat16] {
      for count in [1, 31, 1000] {
        var values = [Float](repeating: 1, count: count)
        #expect(try !Tensor(values).cast(to: dtype).hasNonFinite())
        for bad in [Float.nan, .infinity, -.infinity] {
          values[count - 1] = bad
          #expect(try Tensor(values).cast(to: dtype).hasNonFinite())
        }
      }
    }
    #expect(try !Tensor.full([5], -1, .int32).hasNonFinite())
  }

  @Test func wrongTypesAndShapesThrow() throws {
    let x = try Tensor.zeros([2, 3])
    let i = try Tensor.zeros([2, 3], .int32)
    let u = try Tensor.zeros([2, 3], .uint8)
    let deep = try Tensor.zeros([2, 1, 2, 1, 2, 1, 2, 1, 2])
    let wrong: [() throws -> Tensor] = [
      { try x + i }, { try x - x.cast(to: .bfloat16) }, { try x * Tensor.zeros([2, 2]) },
      { try x / Tensor.zeros([3, 2]) },
      { try x .< i }, { try i.exp() }, { try u.sigmoid() }, { try i + 1 }, { try 1 / u }, { try -i },
      { try Tensor.selecting(x, x, x) }, { try Tensor.selecting(u, x, i) },
      { try Tensor.selecting(u, x, Tensor.zeros([4])) },
      { try deep + deep },
    ]
    for (index, body) in wrong.enumerated() { #expect(throws: TensorError.self, "case \(index)") { try body() } }
  }
}
