import CFermataKernels
import Fermata
import Foundation

/// An operation on rows of a large tensor, bound by memory: 64 × 1,024 × 512 results in f32.
struct RowOperation: Sendable {
  let name: String
  /// Elements of an input row for each of the 512 of a result.
  var inputs = 1
  /// Writes results into existing memory.
  let into: @Sendable (_ x: UnsafeMutablePointer<Float>, _ y: UnsafeMutablePointer<Float>) -> Void
  /// The operation as users call it.
  let called: @Sendable (Tensor) throws -> Tensor
  /// One row in f64, from the equation; `position` is that of its token.
  let oracle: @Sendable (_ row: [Double], _ position: Int) -> [Double]

  static let (batch, length, width) = (64, 1024, 512)
  static let rows = batch * length
  private static let heads = 8

  var bytes: Double { Double(4 * Self.rows * Self.width * (1 + inputs)) }
  static let all = [rmsNorm, softmax, swiGLU, rotary]

  private static let rmsNorm = RowOperation(
    name: "rms_norm",
    into: { fm_rms_norm(FM_F32, $0, nil, $1, nil, Int64(rows), Int64(width), 1e-5) },
    called: { try Fermata.rmsNorm($0, weight: Tensor.ones([width]), epsilon: 1e-5) },
    oracle: { row, _ in
      let scale = 1 / (row.reduce(0) { $0 + $1 * $1 } / Double(row.count) + 1e-5).squareRoot()
      return row.map { $0 * scale }
    })

  private static let softmax = RowOperation(
    name: "softmax",
    into: { fm_softmax(FM_F32, $0, $1, Int64(rows), Int64(width)) },
    called: { try $0.softmax() },
    oracle: { row, _ in
      let powers = row.map { exp($0 - (row.max() ?? 0)) }
      let sum = powers.reduce(0, +)
      return powers.map { $0 / sum }
    })

  private static let swiGLU = RowOperation(
    name: "swiglu", inputs: 2,
    into: { fm_swiglu(FM_F32, $0, $1, Int64(rows), Int64(width)) },
    called: { try Fermata.swiGLU($0) },
    oracle: { row, _ in (0..<width).map { row[$0] / (1 + exp(-row[$0])) * row[width + $0] } })

  private static let rotary = RowOperation(
    name: "rotary",
    into: { x, y in
      let half = width / heads / 2
      let stride = [Int64(length * width), Int64(width), Int64(width / heads)]
      fm_rotary(
        FM_F32, x, stride, Angles.shared.cosine, Angles.shared.sine, 0, y, Int64(batch), Int64(length), Int64(heads),
        Int64(2 * half), Int64(2 * half), 0, 1)
    },
    called: { x in
      let (cosine, sine) = (try Angles.shared.tensor(\.cosine), try Angles.shared.tensor(\.sine))
      return try Fermata.rotary(
        x.reshaped([x.shape[0], x.shape[1], heads, width / heads]), cosine: cosine, sine: sine, width: width / heads,
        interleaved: false)
    },
    oracle: { row, position in
      let size = width / heads
      return (0..<width).map { index in
        let (head, feature) = (index / size * size, index % size)
        let angle = Angles.angle(position, feature % (size / 2))
        let (a, b) = (row[head + feature % (size / 2)], row[head + feature % (size / 2) + size / 2])
        return feature < size / 2 ? a * cos(angle) - b * sin(angle) : a * sin(angle) + b * cos(angle)
      }
    })

  /// Rotary angles of the 1,024 positions, made once, as the peer makes them once.
  private final class Angles: Sendable {
    static let shared = Angles()
    let cosine, sine: [Float]

    private init() {
      let angles = (0..<length).flatMap { position in (0..<32).map { Self.angle(position, $0) } }
      (cosine, sine) = (angles.map { Float(cos($0)) }, angles.map { Float(sin($0)) })
    }

    static func angle(_ position: Int, _ pair: Int) -> Double { Double(position) * pow(10_000, -Double(pair) / 32) }
    func tensor(_ values: KeyPath<Angles, [Float]>) throws -> Tensor {
      try Tensor(self[keyPath: values], shape: [1, length, 32])
    }
  }

  /// Every 997th row of results against the oracle: rows from all over a tensor of the measured size.
  func check(_ what: String, x: UnsafePointer<Float>, y: UnsafePointer<Float>) -> Check {
    var (actual, expected): ([Double], [Double]) = ([], [])
    let step = inputs * Self.width
    for row in stride(from: 0, to: Self.rows, by: 997) {
      actual += (0..<Self.width).map { Double(y[row * Self.width + $0]) }
      expected += oracle((0..<step).map { Double(x[row * step + $0]) }, row % Self.length)
    }
    return Check(what, actual, expected, allowed: 1e-6)
  }

  func peer(existing: Bool) -> PeerProgram {
    PeerProgram(module: "row_operation", settings: ["operation": .string(name), "existing": .bool(existing)])
  }

  /// Inputs for the peer's check, fewer than are measured.
  func exchange() throws -> (
    inputs: [(name: String, value: Tensor)], expected: [(name: String, value: Tensor, allowed: Double)]
  ) {
    var random = RandomSource(seed: 5)
    let x = try random.normal([2, Self.length, inputs * Self.width])
    return ([("x", x)], [("y", try called(x).reshaped([2, Self.length, Self.width]), 2e-6)])
  }
}

/// The kernel, writing into memory that exists.
struct IntoExistingMemory: Row {
  let operation: RowOperation
  var name: String { "\(operation.name)-existing" }
  var title: String { "\(operation.name) 64 × 1,024 × 512 f32 into existing memory" }
  var quantity: Quantity { .rate(operation.bytes / 1e9, "GB/s") }
  var work: MachineWork? { .bytes(operation.bytes) }
  var goal: Goal { .all([.timesPeer(1.3), .shareOfMachine(0.75)]) }
  var peer: PeerProgram? { operation.peer(existing: true) }

  func prepare() throws -> Subject {
    let count = RowOperation.rows * RowOperation.width
    let (x, y) = (Buffer(4 * count * operation.inputs), Buffer(4 * count))
    fm_random_normal(4, 0, 0, x.floats, Int64(count * operation.inputs))
    operation.into(x.floats, y.floats)
    let exchange = try operation.exchange()
    return Subject(
      checks: [operation.check("every 997th row against f64", x: x.floats, y: y.floats)], inputs: exchange.inputs,
      expected: exchange.expected, sample: { seconds { operation.into(x.floats, y.floats) } })
  }
}

/// The operation as users call it, with its result in memory of its own.
struct AsCalled: Row {
  let operation: RowOperation
  var name: String { "\(operation.name)-called" }
  var title: String { "\(operation.name) 64 × 1,024 × 512 f32 as users call it" }
  var quantity: Quantity { .rate(operation.bytes / 1e9, "GB/s") }
  var work: MachineWork? { .bytes(operation.bytes) }
  var goal: Goal { .timesPeer(2.5) }
  var peer: PeerProgram? { operation.peer(existing: false) }

  func prepare() throws -> Subject {
    var random = RandomSource(seed: 4)
    let x = try random.normal([RowOperation.batch, RowOperation.length, operation.inputs * RowOperation.width])
    let (rows, results) = (try x.floats(), try operation.called(x).floats())
    let check = rows.withUnsafeBufferPointer { x in
      results.withUnsafeBufferPointer { y -> Check? in
        guard let x = x.baseAddress, let y = y.baseAddress else { return nil }
        return operation.check("every 997th row against f64", x: x, y: y)
      }
    }
    let exchange = try operation.exchange()
    return Subject(
      checks: check.map { [$0] } ?? [], inputs: exchange.inputs, expected: exchange.expected,
      sample: { try seconds { _ = try operation.called(x) } })
  }
}
