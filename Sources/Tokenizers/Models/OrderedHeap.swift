/// A binary heap of (order, place), smallest first.
struct OrderedHeap {
  private var items: [UInt64] = []

  mutating func removeAll() { items.removeAll(keepingCapacity: true) }

  private static func item(_ order: UInt32, _ place: Int32) -> UInt64 {
    UInt64(order) << 32 | UInt64(UInt32(bitPattern: place))
  }

  /// Adds without keeping the order; `order()` must follow.
  mutating func append(_ order: UInt32, _ place: Int32) { items.append(Self.item(order, place)) }

  mutating func order() {
    for index in stride(from: items.count / 2 - 1, through: 0, by: -1) { sink(index) }
  }

  mutating func push(_ order: UInt32, _ place: Int32) {
    items.append(Self.item(order, place))
    items.withUnsafeMutableBufferPointer { items in
      var index = items.count - 1
      let item = items[index]
      while index > 0, items[(index - 1) / 2] > item {
        items[index] = items[(index - 1) / 2]
        index = (index - 1) / 2
      }
      items[index] = item
    }
  }

  mutating func pop() -> (order: UInt32, place: Int32)? {
    guard let first = items.first, let last = items.popLast() else { return nil }
    if !items.isEmpty {
      items[0] = last
      sink(0)
    }
    return (UInt32(first >> 32), Int32(bitPattern: UInt32(truncatingIfNeeded: first)))
  }

  private mutating func sink(_ start: Int) {
    items.withUnsafeMutableBufferPointer { items in
      var index = start
      let item = items[index]
      while true {
        var child = 2 * index + 1
        if child >= items.count { break }
        if child + 1 < items.count, items[child + 1] < items[child] { child += 1 }
        if items[child] >= item { break }
        items[index] = items[child]
        index = child
      }
      items[index] = item
    }
  }
}
