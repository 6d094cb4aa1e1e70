/// The order in which one pass over the documents reads every pair exactly once.
enum EpochPlan: Sendable {
  case rows(RowPlan)
  case stream(StreamPlan)

  /// Number of rows, or of pieces of the stream.
  var count: Int {
    switch self {
    case .rows(let plan): plan.count
    case .stream(let plan): plan.count
    }
  }
}

/// Rows of fixed length.
///
/// A document longer than a row is cut into stretches of a whole row, from a place that each epoch draws anew, so
/// that the model does not always see the same beginnings. The shorter parts, shuffled, are laid end to end and cut
/// into rows.
struct RowPlan: Sendable {
  private var segments: [Segment] = []
  /// Which segments each row is made of.
  private var rows: [Range<Int>] = []
  var count: Int { rows.count }

  /// - Parameter generator: shuffles; nil keeps the order of the documents.
  init(_ documents: [TokenDocument], length: Int, generator: SplitMix64?) {
    var parts: [Segment] = []
    var random = generator
    for (index, document) in documents.enumerated() {
      var start = 0
      var size = min(document.count, length)
      if document.count > length, random != nil { size = 1 + (random?.below(length) ?? 0) }
      while size > 0 {
        let segment = Segment(document: Int32(index), start: start, count: size)
        if size == length { segments.append(segment) } else { parts.append(segment) }
        start += size
        size = min(length, document.count - start)
      }
    }
    rows = segments.indices.map { $0..<$0 + 1 }
    random?.shuffle(&parts)
    layEndToEnd(parts, length: length)
    random?.shuffle(&rows)
  }

  private mutating func layEndToEnd(_ parts: [Segment], length: Int) {
    var room = length
    var first = segments.count
    for var part in parts {
      while part.count > 0 {
        let size = min(room, part.count)
        segments.append(Segment(document: part.document, start: part.start, count: size))
        part.start += size
        part.count -= size
        room -= size
        if room == 0 {
          rows.append(first..<segments.count)
          first = segments.count
          room = length
        }
      }
    }
    if first < segments.count { rows.append(first..<segments.count) }
  }

  /// Fills a row of a batch.
  func fill(_ batch: inout TokenBatch, row: Int, with index: Int, _ documents: [TokenDocument], beginToken: Int32) {
    let end = (row + 1) * batch.length
    var slot = row * batch.length
    for number in rows[index] {
      let segment = segments[number]
      batch.put(
        documents[Int(segment.document)], pairs: segment.start..<segment.start + segment.count,
        number: Int32(truncatingIfNeeded: number & 0x7FFF_FFFF), position: 0, at: slot, beginToken: beginToken)
      slot += segment.count
    }
    batch.pad(from: slot, to: end)
  }
}

/// The documents laid end to end and divided into as many lanes as a batch has rows; each lane is read from its
/// beginning to its end, piece by piece.
struct StreamPlan: Sendable {
  private let order: [Int]
  /// Where each document of `order` begins in the whole, and at last the end.
  private let begins: [Int]
  private let lanes: Int
  private let length: Int
  private let epoch: Int
  let count: Int

  init(_ documents: [TokenDocument], lanes: Int, length: Int, epoch: Int, generator: SplitMix64?) {
    var order = documents.indices.filter { documents[$0].count > 0 }
    var random = generator
    random?.shuffle(&order)
    var begins = [0]
    var total = 0
    for index in order {
      total += documents[index].count
      begins.append(total)
    }
    self.order = order
    self.begins = begins
    self.lanes = lanes
    self.length = length
    self.epoch = epoch
    // Lanes differ by one pair at most.
    let longest = (total + lanes - 1) / lanes
    count = (longest + length - 1) / length
  }

  private func laneStart(_ lane: Int) -> Int {
    let total = begins[begins.count - 1]
    return total / lanes * lane + min(lane, total % lanes)
  }

  /// Fills every row with the piece `index` of its lane.
  func fill(_ batch: inout TokenBatch, piece index: Int, _ documents: [TokenDocument], beginToken: Int32) {
    for lane in 0..<lanes {
      let laneBegin = laneStart(lane)
      let laneEnd = laneStart(lane + 1)
      var place = min(laneBegin + index * length, laneEnd)
      let end = min(place + length, laneEnd)
      var slot = lane * length
      var rank = place < end ? self.rank(of: place) : 0
      while place < end {
        let begin = begins[rank]
        let stop = min(end, begins[rank + 1])
        let number = (epoch &* order.count &+ rank) & 0x7FFF_FFFF
        batch.put(
          documents[order[rank]], pairs: place - begin..<stop - begin, number: Int32(truncatingIfNeeded: number),
          position: place - max(begin, laneBegin), at: slot, beginToken: beginToken)
        slot += stop - place
        place = stop
        rank += 1
      }
      batch.pad(from: slot, to: (lane + 1) * length)
    }
  }

  /// Which document of the order holds a place: the last that begins at or before it.
  private func rank(of place: Int) -> Int {
    var low = 0
    var high = order.count - 1
    while low < high {
      let middle = (low + high + 1) / 2
      if begins[middle] <= place { low = middle } else { high = middle - 1 }
    }
    return low
  }
}
