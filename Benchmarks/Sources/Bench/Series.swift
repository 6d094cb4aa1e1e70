/// Samples of one side of a row, less being better.
struct Series: Codable {
  var samples: [Double]

  var median: Double {
    let sorted = samples.sorted()
    if sorted.isEmpty { return .nan }
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
  var least: Double { samples.min() ?? .nan }
  var most: Double { samples.max() ?? .nan }
}
