/// Merges neighbouring symbols, best pair first and of equal ones the leftmost, until none is left to merge.
///
/// Short pieces are searched again for every merge; long ones keep their pairs in a heap and their symbols in a linked
/// list, so that time grows with n log n, without spaces and at any length.
struct MergeScratch {
  /// The symbols; after a merge those that are left. What a symbol is, the pair finder knows.
  var symbols: [Int32] = []
  private var keys: [UInt64] = []
  private var previous: [Int32] = []
  private var next: [Int32] = []
  private var heap = OrderedHeap()
  private static let shortest = 32
  private static let none = UInt64.max

  /// - Parameter find: for two neighbours the order of their merge (smaller comes first, below 2^32) and the symbol that
  ///   they become.
  @inline(__always)
  mutating func merge(_ find: (Int32, Int32) -> (order: UInt32, merged: Int32)?) {
    if symbols.count < 2 { return }
    if symbols.count <= Self.shortest { mergeShort(find) } else { mergeLong(find) }
  }

  @inline(__always)
  private mutating func mergeShort(_ find: (Int32, Int32) -> (order: UInt32, merged: Int32)?) {
    // The order and the result of each pair, in one number.
    func key(_ index: Int) -> UInt64 {
      find(symbols[index], symbols[index + 1]).map { UInt64($0.order) << 32 | UInt64(UInt32(bitPattern: $0.merged)) }
        ?? Self.none
    }
    keys.removeAll(keepingCapacity: true)
    for index in 0..<symbols.count - 1 { keys.append(key(index)) }
    while true {
      var best = 0
      var order = Self.none
      for (index, key) in keys.enumerated() where key >> 32 < order >> 32 { (best, order) = (index, key) }
      if order == Self.none { return }
      symbols[best] = Int32(bitPattern: UInt32(truncatingIfNeeded: order))
      symbols.remove(at: best + 1)
      keys.remove(at: best)
      if best > 0 { keys[best - 1] = key(best - 1) }
      if best < keys.count { keys[best] = key(best) }
    }
  }

  private mutating func mergeLong(_ find: (Int32, Int32) -> (order: UInt32, merged: Int32)?) {
    let count = symbols.count
    previous = (0..<Int32(count)).map { $0 - 1 }
    next = (1...Int32(count)).map { $0 }
    next[count - 1] = -1
    heap.removeAll()
    for index in 0..<count - 1 {
      if let found = find(symbols[index], symbols[index + 1]) { heap.append(found.order, Int32(index)) }
    }
    heap.order()
    while let (order, place) = heap.pop() {
      let left = Int(place)
      // What was merged away or has other neighbours by now is out of date: its new pair has an entry of its own.
      guard symbols[left] >= 0, next[left] >= 0, let found = find(symbols[left], symbols[Int(next[left])]),
        found.order == order
      else { continue }
      let right = Int(next[left])
      symbols[left] = found.merged
      symbols[right] = -1
      next[left] = next[right]
      if next[left] >= 0 {
        previous[Int(next[left])] = place
        if let pair = find(symbols[left], symbols[Int(next[left])]) { heap.push(pair.order, place) }
      }
      let before = Int(previous[left])
      if before >= 0, let pair = find(symbols[before], symbols[left]) { heap.push(pair.order, Int32(before)) }
    }
    symbols.removeAll { $0 < 0 }
  }
}
