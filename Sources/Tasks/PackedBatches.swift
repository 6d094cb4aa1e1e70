/// An endless supply of training batches, epoch after epoch, each pair once an epoch.
///
/// What is drawn depends on the documents, the settings and the seed alone, and `cursor` holds the place: a
/// run that restores it draws the same batches from there on.
public struct PackedBatches: Sendable {
  /// A place in the supply, to be saved with a checkpoint.
  public struct Cursor: Codable, Equatable, Sendable {
    /// How documents are packed.
    public let mode: PackingMode
    /// The generator and its seed; with the epoch they give every draw, so there is no further state.
    public let generator: String
    /// Passes over the data that are done.
    public internal(set) var epoch: Int
    /// Rows, or pieces of the stream, already drawn in this epoch.
    public internal(set) var offset: Int
    /// Identifies documents and settings.
    public let fingerprint: String
  }

  /// Rows in a batch.
  public let batch: Int
  /// Tokens in a row.
  public let length: Int
  /// The token that stands before every document.
  public let beginToken: Int32
  /// Pairs in one epoch.
  public let pairs: Int
  /// The place of the next batch.
  public private(set) var cursor: Cursor
  private let documents: [TokenDocument]
  private let seed: UInt64
  private let shuffled: Bool
  private var plan: EpochPlan

  /// - Parameters:
  ///   - beginToken: the token before every document, given by the tokenizer; for bytes, 256.
  ///   - shuffled: whether each epoch draws a new order.
  /// - Throws: `DataError` for sizes below 1 or documents that cannot fill one row (for a stream, one token of each
  ///   lane).
  public init(
    _ documents: [TokenDocument], batch: Int, length: Int, beginToken: Int32, mode: PackingMode = .rows,
    seed: UInt64 = 0, shuffled: Bool = true
  ) throws {
    pairs = try Packing.check(documents, batch: batch, length: length)
    let needed = mode == .rows ? length : max(length, batch)
    if pairs < needed { throw DataError.tooShort(path: Packing.name(documents), size: pairs, needed: needed) }
    self.documents = documents
    self.batch = batch
    self.length = length
    self.beginToken = beginToken
    self.seed = seed
    self.shuffled = shuffled
    let settings = [batch, length, Int(beginToken), shuffled ? 1 : 0]
    cursor = Cursor(
      mode: mode, generator: "splitmix64:" + String(seed, radix: 16), epoch: 0, offset: 0,
      fingerprint: Packing.fingerprint(documents, settings: settings))
    plan = Packing.plan(documents, mode, batch: batch, length: length, epoch: 0, seed: shuffled ? seed : nil)
  }

  /// Batches in an epoch, rounded up.
  public var batchesPerEpoch: Int { (pairs + batch * length - 1) / (batch * length) }

  /// Draws the next batch. Rows that an epoch lacks for a whole batch come from the next one.
  public mutating func next() -> TokenBatch {
    var result = TokenBatch(batch: batch, length: length, padding: beginToken)
    if cursor.offset >= plan.count { beginEpoch(cursor.epoch + 1) }
    result.epoch = cursor.epoch
    if case .stream(let stream) = plan {
      stream.fill(&result, piece: cursor.offset, documents, beginToken: beginToken)
      cursor.offset += 1
      return result
    }
    for row in 0..<batch {
      if cursor.offset >= plan.count { beginEpoch(cursor.epoch + 1) }
      guard case .rows(let rows) = plan else { break }
      rows.fill(&result, row: row, with: cursor.offset, documents, beginToken: beginToken)
      cursor.offset += 1
    }
    return result
  }

  /// Goes to a saved place.
  /// - Throws: `DataError.foreignCursor` when it was saved with other documents, settings or seed; then nothing
  ///   changes.
  public mutating func restore(_ saved: Cursor) throws {
    guard saved.mode == cursor.mode else {
      throw DataError.foreignCursor(
        reason: "it is one of packing mode '\(saved.mode.rawValue)', not '\(cursor.mode.rawValue)'")
    }
    guard saved.generator == cursor.generator else {
      throw DataError.foreignCursor(reason: "its generator is \(saved.generator), not \(cursor.generator)")
    }
    guard saved.fingerprint == cursor.fingerprint else {
      throw DataError.foreignCursor(reason: "the documents, the batch size or the sequence length have changed")
    }
    guard (0..<1 << 40).contains(saved.epoch), saved.offset >= 0 else {
      throw DataError.foreignCursor(reason: "no run has an epoch \(saved.epoch) or an offset \(saved.offset)")
    }
    let savedPlan = Packing.plan(
      documents, saved.mode, batch: batch, length: length, epoch: saved.epoch, seed: shuffled ? seed : nil)
    guard saved.offset <= savedPlan.count else {
      throw DataError.foreignCursor(reason: "its offset \(saved.offset) is past the epoch's \(savedPlan.count)")
    }
    cursor = saved
    plan = savedPlan
  }

  private mutating func beginEpoch(_ epoch: Int) {
    cursor.epoch = epoch
    cursor.offset = 0
    plan = Packing.plan(
      documents, cursor.mode, batch: batch, length: length, epoch: epoch, seed: shuffled ? seed : nil)
  }
}

/// The same batches every time, in the documents' order, each pair once: for measuring.
public struct ValidationBatches: Sequence, Sendable {
  /// Number of batches.
  public let count: Int
  /// Pairs in them all.
  public private(set) var pairs: Int
  private let documents: [TokenDocument]
  private let batch: Int
  private let length: Int
  private let beginToken: Int32
  private let plan: EpochPlan
  private let chosen: [Int]

  /// - Parameters:
  ///   - limit: the most batches; rows are then taken at even distances, a stream from its beginning. Nil: all.
  /// - Throws: `DataError` for sizes or a limit below 1, or when there are no documents.
  public init(
    _ documents: [TokenDocument], batch: Int, length: Int, beginToken: Int32, mode: PackingMode = .rows,
    limit: Int? = nil
  ) throws {
    _ = try Packing.check(documents, batch: batch, length: length)
    if let limit, limit < 1 {
      throw DataError.invalid(setting: "the number of validation batches, \(limit),", reason: "is below 1")
    }
    self.documents = documents
    self.batch = batch
    self.length = length
    self.beginToken = beginToken
    plan = Packing.plan(documents, mode, batch: batch, length: length, epoch: 0, seed: nil)
    let rowsPerBatch = mode == .rows ? batch : 1
    let (most, overflow) = (limit ?? .max).multipliedReportingOverflow(by: rowsPerBatch)
    let wanted = overflow ? plan.count : Swift.min(plan.count, most)
    let planned = plan.count
    chosen = (0..<wanted).map { mode == .rows ? $0 * planned / wanted : $0 }
    count = (wanted + rowsPerBatch - 1) / rowsPerBatch
    pairs = documents.reduce(0) { $0 + $1.count }
    // What a limit leaves can only be counted by making it.
    if wanted < planned { pairs = self.reduce(0) { $0 + $1.targetCount } }
  }

  /// The batch at `index`, of `count`. Rows missing from the last are padding.
  public subscript(index: Int) -> TokenBatch {
    var result = TokenBatch(batch: batch, length: length, padding: beginToken)
    switch plan {
    case .stream(let stream):
      if chosen.indices.contains(index) {
        stream.fill(&result, piece: chosen[index], documents, beginToken: beginToken)
      }
    case .rows(let rows):
      for row in 0..<batch where chosen.indices.contains(index * batch + row) {
        rows.fill(&result, row: row, with: chosen[index * batch + row], documents, beginToken: beginToken)
      }
    }
    return result
  }

  public func makeIterator() -> AnyIterator<TokenBatch> {
    var index = 0
    return AnyIterator {
      guard index < count else { return nil }
      defer { index += 1 }
      return self[index]
    }
  }
}
