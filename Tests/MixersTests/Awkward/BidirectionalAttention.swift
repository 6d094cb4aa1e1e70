import FermataLayers
import FermataMixers
import FermataTensors

/// Attention in both directions: no cut is possible, but stretches merge.
///
/// The state holds the keys and values of everything else in the sequence. A call reads those and the piece's own, merging the
/// two outputs by their logarithms of sums of exponentials, and seals the state: there is no going on from here.
struct BidirectionalAttention: MergingMixer {
  var projection: Linear

  init(width: Int, random: inout RandomSource) throws { projection = try Linear(width, 3 * width, random: &random) }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("qkv_proj", &projection)
  }

  var laws: Laws { Laws(cut: .none, merge: .associative(cost: "keys and values of the stretch")) }

  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 0 }
  func initialState(batch: Int) throws -> MixerState { MixerState() }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    try require(
      !state.isSealed && piece.layout.parents == nil, "bidirectional attention", expected: "the whole sequence at once",
      got: "a second piece or a tree", advice: "this mixer cannot stream")
    let (query, key, value) = try projections(piece)
    var mask = AttentionMask.everything
    (mask.queryDocuments, mask.keyDocuments) = try Documents.numbers(piece.layout).map { ($0, $0) } ?? (nil, nil)
    let own = try attentionWithStatistics(query, key, value, mask: mask)
    var output = own.output
    if let keys = state["keys"], let values = state["values"] {
      let other = try attentionWithStatistics(query, keys, values, mask: .everything)
      // e^l / (e^l + e^m) = σ(l - m)
      let share = try (own.logSumExp - other.logSumExp).sigmoid().transposed(1, 2).expanded(at: 3)
      output = try output * share + other.output * (1 - share)
    }
    state.position += piece.length
    state.isSealed = true
    return try output.reshaped(piece.values.shape)
  }

  private func projections(_ piece: Piece) throws -> (Tensor, Tensor, Tensor) {
    let width = piece.values.shape[2]
    let parts = try projection(piece.values).split(sizes: [width, width, width], axis: 2).map { try $0.expanded(at: 2) }
    return (parts[0], parts[1], parts[2])
  }

  func summarise(_ piece: Piece) throws -> Summary {
    try require(
      piece.layout.resets == nil && piece.layout.valid == nil, "summarise", expected: "one document without padding",
      got: "another layout")
    let (_, key, value) = try projections(piece)
    return Summary(length: piece.length, tensors: ["keys": key, "values": value])
  }

  func merged(_ left: Summary, _ right: Summary) throws -> Summary {
    var joined: [String: Tensor] = [:]
    for name in ["keys", "values"] {
      joined[name] = try Tensor.concatenated([left.tensor(name), right.tensor(name)], axis: 1)
    }
    return Summary(length: left.length + right.length, tensors: joined)
  }

  func advance(_ state: inout MixerState, by summary: Summary) throws {
    var next = state
    for name in ["keys", "values"] {
      next[name] = try Tensor.concatenated((next[name].map { [$0] } ?? []) + [summary.tensor(name)], axis: 1)
    }
    next.position += summary.length
    state = next
  }
}

/// Document numbers of a whole sequence.
enum Documents {
  /// I32 (batch, length), -1 for padding; nil when there is one document without padding.
  static func numbers(_ layout: Layout) throws -> Tensor? {
    if layout.resets == nil && layout.valid == nil { return nil }
    let count = layout.batch * layout.length
    let resets = try layout.resets?.values(as: UInt8.self) ?? Array(repeating: 0, count: count)
    let valid = try layout.valid?.values(as: UInt8.self) ?? Array(repeating: 1, count: count)
    var numbers = [Int32](repeating: 0, count: count)
    var document: Int32 = 0
    for index in 0..<count {
      if index % layout.length == 0 { document = 0 }
      document += Int32(resets[index])
      numbers[index] = valid[index] == 0 ? -1 : document
    }
    return try Tensor(numbers, shape: [layout.batch, layout.length])
  }
}
