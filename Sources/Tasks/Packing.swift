/// What training and validation batches have in common.
enum Packing {
  /// Checks sizes and counts the pairs.
  static func check(_ documents: [TokenDocument], batch: Int, length: Int) throws -> Int {
    if batch < 1 { throw DataError.invalid(setting: "the batch size \(batch)", reason: "is below 1") }
    if length < 1 { throw DataError.invalid(setting: "the sequence length \(length)", reason: "is below 1") }
    let (count, overflow) = batch.multipliedReportingOverflow(by: length)
    if overflow || count > Int(Int32.max) {
      throw DataError.invalid(
        setting: "a batch of \(batch) rows of \(length) tokens",
        reason: "is more than 2^31 tokens; make one of them smaller")
    }
    let pairs = documents.reduce(0) { $0 + $1.count }
    if pairs == 0 { throw DataError.empty(path: name(documents)) }
    return pairs
  }

  /// What to call the documents in messages.
  static func name(_ documents: [TokenDocument]) -> String {
    switch documents.count {
    case 0: "the list of documents"
    case 1: documents[0].name
    default: "the text of \(documents.count) documents"
    }
  }

  /// The order of one epoch; it depends on nothing but the arguments.
  static func plan(
    _ documents: [TokenDocument], _ mode: PackingMode, batch: Int, length: Int, epoch: Int, seed: UInt64?
  ) -> EpochPlan {
    let generator = seed.map { SplitMix64(seed: $0, stream: UInt64(truncatingIfNeeded: epoch)) }
    return switch mode {
    case .rows: .rows(RowPlan(documents, length: length, generator: generator))
    case .stream: .stream(StreamPlan(documents, lanes: batch, length: length, epoch: epoch, generator: generator))
    }
  }

  /// A number that other documents or settings are unlikely to share: sizes, and up to 4,096 tokens of each at even
  /// distances.
  static func fingerprint(_ documents: [TokenDocument], settings: [Int]) -> String {
    var hash: UInt64 = 0
    func add(_ value: Int) { hash = SplitMix64.mix(hash &* 3 &+ UInt64(truncatingIfNeeded: value) &+ 1) }
    settings.forEach(add)
    let samples = 4096
    for document in documents {
      add(document.count)
      let step = max(1, document.count / samples)
      var token: Int32 = 0
      for index in stride(from: 0, to: document.count, by: step) {
        document.copy(index..<index + 1, to: &token)
        add(Int(token))
      }
    }
    return String(hash, radix: 16)
  }
}
