import FermataTestSupport

@testable import FermataTensors

/// An array of numbers with every operation written as index arithmetic: the oracle of views.
struct Naive {
  var shape: [Int]
  var values: [Double]

  init(_ shape: [Int], _ values: [Double]) {
    self.shape = shape
    self.values = values
  }

  init(_ tensor: Tensor) throws { self.init(tensor.shape, try tensor.cast(to: .float32).floats().map(Double.init)) }

  /// The value at each index of a shape is made from the index.
  init(_ shape: [Int], _ value: ([Int]) -> Double) {
    self.shape = shape
    values = Naive.indices(shape).map(value)
  }

  static func indices(_ shape: [Int]) -> [[Int]] {
    shape.reduce([[]]) { prefixes, size in prefixes.flatMap { prefix in (0..<size).map { prefix + [$0] } } }
  }

  subscript(_ index: [Int]) -> Double {
    values[zip(index, shape).reduce(0) { $0 * $1.1 + $1.0 }]
  }

  func transposed(_ order: [Int]) -> Naive {
    Naive(order.map { shape[$0] }) { index in
      var source = index
      for (position, axis) in order.enumerated() { source[axis] = index[position] }
      return self[source]
    }
  }

  func slice(_ range: Range<Int>, axis: Int) -> Naive {
    var result = shape
    result[axis] = range.count
    return Naive(result) { index in
      var source = index
      source[axis] += range.lowerBound
      return self[source]
    }
  }

  func broadcast(to target: [Int]) -> Naive {
    let lead = target.count - shape.count
    return Naive(target) { index in self[shape.indices.map { shape[$0] == 1 ? 0 : index[lead + $0] }] }
  }

  func reshaped(_ target: [Int]) -> Naive { Naive(target, values) }

  func padded(axis: Int, before: Int, after: Int) -> Naive {
    var result = shape
    result[axis] += before + after
    return Naive(result) { index in
      var source = index
      source[axis] -= before
      return source[axis] >= 0 && source[axis] < shape[axis] ? self[source] : 0
    }
  }

  static func concatenated(_ parts: [Naive], axis: Int) -> Naive {
    var shape = parts[0].shape
    shape[axis] = parts.reduce(0) { $0 + $1.shape[axis] }
    return Naive(shape) { index in
      var source = index
      for part in parts {
        if source[axis] < part.shape[axis] { return part[source] }
        source[axis] -= part.shape[axis]
      }
      return .nan
    }
  }

  /// One number for each line along an axis, from the line's values.
  func reduced(axis: Int, keepingAxis: Bool = false, _ body: ([Double]) -> Double) -> Naive {
    var kept = shape
    kept[axis] = 1
    let result = Naive(kept) { index in body(line(through: index, axis: axis)) }
    var dropped = kept
    dropped.remove(at: axis)
    return keepingAxis ? result : result.reshaped(dropped)
  }

  /// Every line along an axis replaced by another of the same length.
  func lines(axis: Int, _ body: ([Double]) -> [Double]) -> Naive {
    Naive(shape) { index in body(line(through: index, axis: axis))[index[axis]] }
  }

  private func line(through index: [Int], axis: Int) -> [Double] {
    (0..<shape[axis]).map { position in
      var source = index
      source[axis] = position
      return self[source]
    }
  }

  static func matmul(_ a: Naive, _ b: Naive) -> Naive {
    let rank = max(a.shape.count, b.shape.count)
    func padded(_ x: Naive) -> Naive { x.reshaped([Int](repeating: 1, count: rank - x.shape.count) + x.shape) }
    let (x, y) = (padded(a), padded(b))
    let batch = (0..<rank - 2).map { x.shape[$0] == 1 ? y.shape[$0] : x.shape[$0] }
    return Naive(batch + [x.shape[rank - 2], y.shape[rank - 1]]) { index in
      func place(_ operand: Naive, _ row: Int, _ column: Int) -> Double {
        operand[(0..<rank - 2).map { operand.shape[$0] == 1 ? 0 : index[$0] } + [row, column]]
      }
      return (0..<x.shape[rank - 1]).reduce(0) {
        $0 + place(x, index[rank - 2], $1) * place(y, $1, index[rank - 1])
      }
    }
  }
}

/// Throws unless a tensor has this shape and these values.
func expectClose(_ actual: Tensor, _ expected: Naive, _ tolerance: Tolerance = .exact, _ label: String = "") throws {
  guard actual.shape == expected.shape else {
    throw Mismatch("\(label): expected \(expected.shape), got \(actual.shape)")
  }
  try expectClose(Naive(actual).values, expected.values, tolerance, label)
}
