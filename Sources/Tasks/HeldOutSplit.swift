import Foundation

/// Divides documents into those to learn from and those to be judged on.
///
/// With several documents whole ones are held out, chosen by the seed; with one, its tail. The same documents,
/// fraction and seed always give the same split.
public struct HeldOutSplit: Sendable {
  /// Documents to train on, in their order.
  public let training: [Document]
  /// Documents held out, in their order.
  public let validation: [Document]

  /// - Parameters:
  ///   - fraction: the part of all bytes to hold out, more than 0 and at most 0.5; met as nearly as whole documents
  ///     allow.
  ///   - seed: chooses the documents.
  /// - Throws: `DataError` for a fraction outside its bounds, or a corpus too short to be divided.
  public init(_ corpus: Corpus, fraction: Double = 0.1, seed: UInt64 = 0) throws {
    guard fraction > 0, fraction <= 0.5 else {
      throw DataError.invalid(
        setting: "the validation fraction \(fraction)", reason: "is not more than 0 and at most 0.5")
    }
    let documents = corpus.documents.filter { !$0.bytes.isEmpty }
    guard let first = documents.first else { throw DataError.empty(path: corpus.source) }
    if documents.count == 1 {
      (training, validation) = try Self.divide(first, fraction)
    } else {
      let heldOut = Self.choose(documents.map(\.bytes.count), fraction, seed)
      training = documents.indices.filter { !heldOut.contains($0) }.map { documents[$0] }
      validation = heldOut.sorted().map { documents[$0] }
    }
  }

  /// Refuses a split whose training part cannot fill one sequence of `length` next-byte pairs.
  /// - Throws: `DataError.tooShort` naming the documents and the sizes.
  public func require(sequenceLength length: Int) throws {
    let size = training.reduce(0) { $0 + $1.bytes.count }
    if size < length {
      let path = training.count == 1 ? training[0].name : "the training part (\(training.count) documents)"
      throw DataError.tooShort(path: path, size: size, needed: length)
    }
  }

  /// Takes documents in shuffled order while they fit a quarter beyond the target.
  private static func choose(_ sizes: [Int], _ fraction: Double, _ seed: UInt64) -> Set<Int> {
    let target = Double(sizes.reduce(0, +)) * fraction
    var order = Array(sizes.indices)
    var generator = SplitMix64(seed: seed, stream: 0x5711)
    generator.shuffle(&order)
    var chosen: Set<Int> = []
    var total = 0.0
    for index in order where total + Double(sizes[index]) <= target * 1.25 && chosen.count < sizes.count - 1 {
      chosen.insert(index)
      total += Double(sizes[index])
      if total >= target * 0.75 { break }
    }
    // Where every document is larger than the target, the smallest is nearest to it.
    if chosen.isEmpty, let smallest = order.min(by: { sizes[$0] < sizes[$1] }) { chosen.insert(smallest) }
    return chosen
  }

  private static func divide(_ document: Document, _ fraction: Double) throws -> ([Document], [Document]) {
    let bytes = document.bytes
    let tail = max(1, Int(Double(bytes.count) * fraction))
    var cut = bytes.endIndex - tail
    // Not inside a character: at most three continuation bytes are left to the front part.
    let limit = min(cut + 3, bytes.endIndex - 1)
    while cut < limit, bytes[cut] & 0xC0 == 0x80 { cut += 1 }
    guard cut > bytes.startIndex else {
      throw DataError.tooShort(path: document.name, size: bytes.count, needed: 2)
    }
    return (
      [Document(name: document.name, bytes: bytes[..<cut])],
      [Document(name: document.name + " (tail)", bytes: bytes[cut...])]
    )
  }
}
