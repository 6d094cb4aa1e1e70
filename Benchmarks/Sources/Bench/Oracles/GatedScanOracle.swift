import Fermata
import Foundation

/// Gated linear attention's recurrence, one token after another in f64, from its equation.
enum GatedScanOracle {
  static func check(gateIsVector: Bool) throws -> Check {
    let (length, heads, keys, values) = (150, 2, 16, 24)
    var random = RandomSource(seed: 6)
    let query = try random.normal([1, length, heads, keys])
    let key = try random.normal([1, length, heads, keys])
    let value = try random.normal([1, length, heads, values])
    let gate = try -random.uniform(gateIsVector ? [1, length, heads, keys] : [1, length, heads], 0, 0.2)
    let found = try gatedScan(query: query, key: key, value: value, gate: gate, state: nil, scale: 0.25).output
    let (q, k, v, g) = (try query.floats(), try key.floats(), try value.floats(), try gate.floats())
    var expected = [Double](repeating: 0, count: length * heads * values)
    for head in 0..<heads {
      var state = [Double](repeating: 0, count: keys * values)
      for token in 0..<length {
        let at = token * heads + head
        for i in 0..<keys {
          let decay = exp(Double(g[gateIsVector ? at * keys + i : at]))
          for j in 0..<values {
            state[i * values + j] =
              state[i * values + j] * decay + Double(k[at * keys + i]) * Double(v[at * values + j])
            expected[at * values + j] += 0.25 * Double(q[at * keys + i]) * state[i * values + j]
          }
        }
      }
    }
    return Check(
      "gated scan against one token after another in f64", try found.floats().map(Double.init), expected, allowed: 1e-5)
  }
}
