/// A set of byte strings with numbers, walked byte by byte: for longest matches and for all prefixes of a text. Edges
/// are in one flat hash table, so that it is built in linear time.
struct PieceTrie: Sendable {
  /// The edge (node, byte) and the node it leads to: node << 40 | byte << 32 | child; 0 is free.
  private var edges: [UInt64] = [UInt64](repeating: 0, count: 64)
  private var edgeCount = 0
  /// The number of the string that ends at a node; -1 for none. Node 0 is the root.
  private var numbers: [Int32] = [-1]
  private var rootChildren = [Int32](repeating: -1, count: 256)

  /// Adds a string that is not empty; of equal ones the last counts. At most 2^24 nodes.
  mutating func insert(_ string: UnsafeRawBufferPointer, number: Int) {
    var node = 0
    for byte in string {
      if let next = child(of: node, byte) {
        node = next
      } else {
        if numbers.count >= 1 << 24 { return }
        numbers.append(-1)
        link(node, byte, numbers.count - 1)
        node = numbers.count - 1
      }
    }
    if node != 0 { numbers[node] = Int32(clamping: number) }
  }

  mutating func insert(_ string: [UInt8], number: Int) { string.withUnsafeBytes { insert($0, number: number) } }

  private mutating func link(_ node: Int, _ byte: UInt8, _ child: Int) {
    if node == 0 {
      rootChildren[Int(byte)] = Int32(child)
      return
    }
    edgeCount += 1
    if edgeCount * 2 > edges.count { grow() }
    place(UInt64(node) << 40 | UInt64(byte) << 32 | UInt64(child))
  }

  private mutating func place(_ edge: UInt64) {
    let mask = edges.count - 1
    var slot = Int(truncatingIfNeeded: Vocabulary.mix(edge >> 32)) & mask
    while edges[slot] != 0 { slot = (slot + 1) & mask }
    edges[slot] = edge
  }

  private mutating func grow() {
    let old = edges
    edges = [UInt64](repeating: 0, count: old.count * 2)
    for edge in old where edge != 0 { place(edge) }
  }

  /// The node that a byte leads to from a node; the root is 0.
  @inline(__always)
  func child(of node: Int, _ byte: UInt8) -> Int? {
    if node == 0 {
      let child = rootChildren[Int(byte)]
      return child < 0 ? nil : Int(child)
    }
    let mask = edges.count - 1
    let key = UInt64(node) << 8 | UInt64(byte)
    var slot = Int(truncatingIfNeeded: Vocabulary.mix(key)) & mask
    while edges[slot] != 0 {
      if edges[slot] >> 32 == key { return Int(UInt32(truncatingIfNeeded: edges[slot])) }
      slot = (slot + 1) & mask
    }
    return nil
  }

  /// The number of the string that ends at a node.
  @inline(__always)
  func number(at node: Int) -> Int? { numbers[node] < 0 ? nil : Int(numbers[node]) }

  /// The longest string that the text begins with at `start`: its number and where it ends.
  func longestMatch(_ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ end: Int) -> (number: Int, end: Int)? {
    var node = 0
    var place = start
    var best: (Int, Int)?
    while place < end, let next = child(of: node, text[place]) {
      node = next
      place += 1
      if let number = number(at: node) { best = (number, place) }
    }
    return best
  }

  var isEmpty: Bool { numbers.count == 1 }
}
