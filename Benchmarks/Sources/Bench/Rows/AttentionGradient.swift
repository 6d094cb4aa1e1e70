import Fermata

/// Causal attention forwards and backwards: one sequence, 8 heads of 64.
struct AttentionGradient: Row {
  let length: Int
  let dtype: DType
  private static let (heads, width) = (8, 64)

  var name: String { "attention-\(dtype.short)-\(length)" }
  var title: String { "causal attention forward + backward, 8 heads × 64, \(length) tokens, \(dtype.short)" }
  var quantity: Quantity { .milliseconds }
  var goal: Goal { .timesPeer(dtype == .bfloat16 ? 2 : 1.2) }
  var peer: PeerProgram? {
    PeerProgram(
      module: "attention",
      settings: ["length": .int(length), "dtype": .string(dtype == .bfloat16 ? "bfloat16" : "float32")])
  }
  var work: MachineWork? {
    // Two products forwards and five backwards over half of length².
    .flops(7 * Double(Self.heads * Self.width) * Double(length) * Double(length), dtype)
  }

  private struct Run {
    var inputs: [Tensor]
    var doutput: Tensor

    init(length: Int, dtype: DType) throws {
      var random = RandomSource(seed: 3)
      let shape = [1, length, heads, width]
      inputs = try (0..<3).map { _ in try random.normal(shape).cast(to: dtype) }
      doutput = try random.normal(shape).cast(to: dtype)
    }

    /// Output and the gradients of query, key and value.
    func callAsFunction(_ mix: ([Tensor]) throws -> Tensor) throws -> [Tensor] {
      let leaves = inputs.map { $0.tracked() }
      let output = try mix(leaves)
      let found = try gradients(of: [(output, doutput)])
      return [output] + leaves.compactMap { found[$0] }
    }
  }

  private static func fused(_ x: [Tensor]) throws -> Tensor { try attention(x[0], x[1], x[2], mask: .causal) }

  /// softmax(q kᵀ / √d) v with a matrix of scores.
  private static func simple(_ x: [Tensor]) throws -> Tensor {
    let (length, parts) = (x[0].shape[1], try x.map { try $0.cast(to: .float32).transposed(1, 2) })
    let mask = try Tensor(
      (0..<length * length).map { $0 % length <= $0 / length ? Float(0) : -1e30 }, shape: [length, length])
    let scores = try matmul(parts[0], parts[1].transposed(2, 3)) * (1 / Float(width).squareRoot()) + mask
    let powers = try (scores - scores.maximum(axis: -1, keepingAxis: true).detached).exp()
    return try matmul(powers / powers.sum(axis: -1, keepingAxis: true), parts[2]).transposed(1, 2)
      .cast(to: x[0].dtype)
  }

  private static let names = ["output", "dquery", "dkey", "dvalue"]

  func prepare() throws -> Subject {
    let small = try Run(length: 333, dtype: dtype)
    let (found, wanted) = (try small(Self.fused), try small(Self.simple))
    let checks = try zip(Self.names, zip(found, wanted)).map { name, pair in
      try Check("\(name) against simple operations", pair.0, pair.1, allowed: dtype.allowance)
    }
    let run = try Run(length: length, dtype: dtype)
    let results = try run(Self.fused)
    return Subject(
      checks: checks, inputs: Array(zip(["query", "key", "value", "doutput"], run.inputs + [run.doutput])),
      expected: zip(Self.names, results).map { ($0, $1, dtype.allowance) },
      sample: { try seconds { _ = try run(Self.fused) } })
  }
}
