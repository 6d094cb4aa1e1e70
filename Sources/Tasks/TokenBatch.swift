/// A batch of next-token pairs. All arrays are (batch, length), row by row.
///
/// A pair is an input token and the token that follows it in its document; the first input of a document is the
/// begin-of-document
/// token, so each of its tokens is predicted once. No pair spans two documents.
public struct TokenBatch: Sendable, Equatable {
  /// Number of rows.
  public let batch: Int
  /// Tokens in a row.
  public let length: Int
  /// What the model reads; padding holds the begin-of-document token.
  public internal(set) var inputs: [Int32]
  /// What follows each input; -1 in padding.
  public internal(set) var targets: [Int32]
  /// Equal where tokens of a row may see each other: one number for each document, or for each part of one that is read
  /// apart. -1 in padding.
  /// In a stream the number of a document stays the same from batch to batch, so that a carried cache can tell.
  public internal(set) var documents: [Int32]
  /// 1 where the state starts anew before the token: at a document's first token, or that of a part read apart.
  public internal(set) var resets: [UInt8]
  /// Tokens since the last reset: 0 exactly where `resets` is 1.
  public internal(set) var positions: [Int32]
  /// The pass over the data that the first row belongs to, from 0.
  public internal(set) var epoch = 0

  /// A batch of padding, to be filled.
  init(batch: Int, length: Int, padding: Int32) {
    self.batch = batch
    self.length = length
    let count = batch * length
    inputs = Array(repeating: padding, count: count)
    targets = Array(repeating: -1, count: count)
    documents = Array(repeating: -1, count: count)
    resets = Array(repeating: 0, count: count)
    positions = (0..<count).map { Int32($0 % length) }
    for row in 0..<batch { resets[row * length] = 1 }
  }

  /// Number of pairs that count: all but padding.
  public var targetCount: Int { targets.reduce(0) { $0 + ($1 < 0 ? 0 : 1) } }

  /// Puts pairs of a document at `slot`; the first of them has the position `position`.
  mutating func put(
    _ source: TokenDocument, pairs: Range<Int>, number: Int32, position: Int, at slot: Int, beginToken: Int32
  ) {
    let end = slot + pairs.count
    targets.withUnsafeMutableBufferPointer { buffer in
      if let base = buffer.baseAddress { source.copy(pairs, to: base + slot) }
    }
    if pairs.lowerBound == 0 {
      inputs[slot] = beginToken
    } else {
      inputs.withUnsafeMutableBufferPointer { buffer in
        if let base = buffer.baseAddress { source.copy(pairs.lowerBound - 1..<pairs.lowerBound, to: base + slot) }
      }
    }
    for index in slot..<end {
      if index > slot { inputs[index] = targets[index - 1] }
      documents[index] = number
      resets[index] = 0
      positions[index] = Int32(clamping: position + index - slot)
    }
    if position == 0 { resets[slot] = 1 }
  }

  /// Makes the rest of a row, from `slot` on, padding that starts anew.
  mutating func pad(from slot: Int, to end: Int) {
    for index in slot..<end {
      resets[index] = index == slot ? 1 : 0
      positions[index] = Int32(index - slot)
    }
  }
}

/// How documents become batches.
public enum PackingMode: String, Codable, Sendable, CaseIterable {
  /// Rows that have nothing to do with each other: shuffled parts of documents, each part read from an empty state.
  case rows
  /// Each row of a batch goes on where the same row of the batch before ended, so that state is carried.
  case stream
}

/// The part of a document that is read at a stretch.
struct Segment: Sendable {
  var document: Int32
  var start: Int
  var count: Int
}
