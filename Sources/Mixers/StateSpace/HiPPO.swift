/// The matrix of HiPPO-LegS (Gu et al. 2020), split into a normal matrix and a matrix of rank one (Gu, Goel & Ré 2022):
///
///     A[n][k] = −√(2n+1) √(2k+1) for n > k, −(n+1) for n = k, 0 above;   b[n] = √(2n+1)
///     A = N − p pᵀ,   p[n] = √(n + 1/2),   N = −1/2 + K,   K[n][k] = ∓p[n] p[k], skew-symmetric
///
/// N = V diag(λ) V* with λ = −1/2 ± iω. Only the half with ω > 0 is kept: the rest is its conjugate.
struct HiPPO: Sendable {
  /// ω, ascending: the imaginary parts of the kept eigenvalues.
  var frequencies: [Double]
  /// The kept columns of V, real and imaginary parts, as [column][row].
  var real: [[Double]]
  var imaginary: [[Double]]
  let size: Int

  /// For an even number of states.
  init(size: Int) {
    self.size = size
    let p = (0..<size).map { (Double($0) + 0.5).squareRoot() }
    var skew = [[Double]](repeating: [Double](repeating: 0, count: size), count: size)
    for n in 0..<size {
      for k in 0..<n { (skew[n][k], skew[k][n]) = (-p[n] * p[k], p[n] * p[k]) }
    }
    let basis = Self.tridiagonalise(&skew)
    // K = Q T Qᵀ with T skew and tridiagonal. With D = diag(1, i, i², …), D⁻¹ T D = −i S, where S is symmetric with zeros on
    // the diagonal and T's lower neighbours beside it. So S's eigenvectors W and eigenvalues θ give V = Q D W, K V = −i V θ.
    let beside = (1..<max(size, 1)).map { skew[$0][$0 - 1] }
    let (values, vectors) = Self.symmetricTridiagonal(beside, size)
    let kept = values.indices.filter { values[$0] < 0 }.sorted { values[$0] > values[$1] }
    frequencies = kept.map { -values[$0] }
    let turned = kept.map { j in (0..<size).map { row in Self.turned(basis[row], (0..<size).map { vectors[$0][j] }) } }
    real = turned.map { $0.map(\.real) }
    imaginary = turned.map { $0.map(\.imaginary) }
  }

  /// Σ_k q_k i^k w_k
  private static func turned(_ q: [Double], _ w: [Double]) -> (real: Double, imaginary: Double) {
    var sum = (real: 0.0, imaginary: 0.0)
    for k in q.indices {
      let term = k % 4 < 2 ? q[k] * w[k] : -q[k] * w[k]
      if k % 2 == 0 { sum.real += term } else { sum.imaginary += term }
    }
    return sum
  }

  /// b and p in the basis of the kept eigenvectors: V* b, V* p.
  var input: (real: [Double], imaginary: [Double]) { projected((0..<size).map { (2 * Double($0) + 1).squareRoot() }) }
  var lowRank: (real: [Double], imaginary: [Double]) { projected((0..<size).map { (Double($0) + 0.5).squareRoot() }) }

  /// V* x for a real vector.
  func projected(_ x: [Double]) -> (real: [Double], imaginary: [Double]) {
    func dot(_ column: [Double]) -> Double { zip(column, x).reduce(0) { $0 + $1.0 * $1.1 } }
    return (real.map(dot), imaginary.map { -dot($0) })
  }

  /// Makes a skew-symmetric matrix tridiagonal by Householder's reflections (1958); returns their product Q, K = Q T Qᵀ.
  private static func tridiagonalise(_ k: inout [[Double]]) -> [[Double]] {
    let size = k.count
    var q = (0..<size).map { row in (0..<size).map { $0 == row ? 1.0 : 0 } }
    for column in 0..<max(size - 2, 0) {
      var v = (0..<size).map { $0 > column ? k[$0][column] : 0 }
      let norm = v.reduce(0) { $0 + $1 * $1 }.squareRoot()
      if norm == 0 { continue }
      v[column + 1] += v[column + 1] < 0 ? -norm : norm
      let length = v.reduce(0) { $0 + $1 * $1 }.squareRoot()
      v = v.map { $0 / length }
      // H K H with H = 1 − 2 v vᵀ; vᵀ K v = 0 because K is skew.
      let w = k.map { row in zip(row, v).reduce(0) { $0 + $1.0 * $1.1 } }
      for i in 0..<size { for j in 0..<size { k[i][j] += 2 * (v[i] * w[j] - w[i] * v[j]) } }
      for i in 0..<size {
        let share = 2 * zip(q[i], v).reduce(0) { $0 + $1.0 * $1.1 }
        for j in column + 1..<size { q[i][j] -= share * v[j] }
      }
    }
    return q
  }

  /// Eigenvalues and eigenvectors ([row][column]) of a symmetric matrix with zeros on the diagonal and `beside` next to it, by
  /// implicit QL steps (Francis 1961; Dubrulle, Martin & Wilkinson 1968).
  private static func symmetricTridiagonal(_ beside: [Double], _ size: Int) -> ([Double], [[Double]]) {
    var diagonal = [Double](repeating: 0, count: size)
    var e = beside + [0]
    var z = (0..<size).map { row in (0..<size).map { $0 == row ? 1.0 : 0 } }
    for l in 0..<size {
      for _ in 0..<100 {
        let m = (l..<size - 1).first { abs(e[$0]) <= 2e-16 * (abs(diagonal[$0]) + abs(diagonal[$0 + 1])) } ?? size - 1
        if m == l { break }
        rotate(&diagonal, &e, &z, from: l, to: m)
      }
    }
    return (diagonal, z)
  }

  /// One implicit QL step on rows l...m.
  private static func rotate(_ d: inout [Double], _ e: inout [Double], _ z: inout [[Double]], from l: Int, to m: Int) {
    var g = (d[l + 1] - d[l]) / (2 * e[l])
    let slope = (g * g + 1).squareRoot()
    g = d[m] - d[l] + e[l] / (g + (g < 0 ? -slope : slope))
    var (s, c, p) = (1.0, 1.0, 0.0)
    for i in stride(from: m - 1, through: l, by: -1) {
      let (f, b) = (s * e[i], c * e[i])
      let r = (f * f + g * g).squareRoot()
      e[i + 1] = r
      if r == 0 {
        d[i + 1] -= p
        e[m] = 0
        return
      }
      (s, c) = (f / r, g / r)
      g = d[i + 1] - p
      let t = (d[i] - g) * s + 2 * c * b
      p = s * t
      d[i + 1] = g + p
      g = c * t - b
      for row in z.indices {
        (z[row][i], z[row][i + 1]) = (c * z[row][i] - s * z[row][i + 1], s * z[row][i] + c * z[row][i + 1])
      }
    }
    d[l] -= p
    e[l] = g
    e[m] = 0
  }
}
