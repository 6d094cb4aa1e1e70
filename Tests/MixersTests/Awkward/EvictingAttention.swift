import FermataLayers
import FermataMixers
import FermataTensors
import Foundation

/// Attention over a cache with a budget: after every token the entry of the lowest score goes, the older of two equals.
///
/// A score belongs to its token alone and eviction happens at each absolute position, inside a piece as between pieces, so cuts
/// cannot change it. Rows evict unlike entries; each carries the positions of its own.
/// State: keys, values (batch, entries, width), entry_positions and scores (batch, entries), both I32: choices are discrete.
struct EvictingAttention: Mixer {
  var projection: Linear
  let positions: RotaryPositions
  let width: Int
  let budget: Int
  /// Fixed weights of the score: choices have no gradient.
  private let scorer: [Float]

  init(width: Int, budget: Int, random: inout RandomSource) throws {
    (self.width, self.budget) = (width, budget)
    projection = try Linear(width, 3 * width, random: &random)
    positions = try RotaryPositions(width: width)
    scorer = try random.normal([width]).floats()
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("qkv_proj", &projection)
  }

  var laws: Laws { Laws(cut: .causal, merge: .none(reason: "what is evicted depends on what came before")) }

  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int {
    batch * min(length, budget) * (2 * width * dtype.byteCount + 8)
  }
  func initialState(batch: Int) throws -> MixerState { MixerState() }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    try require(
      piece.layout.isPlain && piece.values.shape[2] == width, "evicting attention",
      expected: "one document without padding, of width \(width)", got: "another layout or \(piece.values)")
    let (batch, length, start) = (piece.batch, piece.length, state.position)
    let standing = try Tensor.range(length, from: Double(start)).expanded(at: 0)
    let parts = try projection(piece.values).split(sizes: [width, width, width], axis: 2)
    func turned(_ x: Tensor) throws -> Tensor { try positions.apply(x.expanded(at: 2), positions: standing) }
    var (keys, values) = (try turned(parts[1]).reshaped(parts[1].shape), parts[2])
    var (places, scores) = (
      try standing.broadcast(to: [batch, length]),
      try Tensor(scored(piece.values, from: start), shape: [batch, length])
    )
    if start > 0 {
      keys = try Tensor.concatenated([state.tensor("keys"), keys], axis: 1)
      values = try Tensor.concatenated([state.tensor("values"), values], axis: 1)
      places = try Tensor.concatenated([state.tensor("entry_positions"), places], axis: 1)
      scores = try Tensor.concatenated([state.tensor("scores"), scores], axis: 1)
    }
    let count = keys.shape[1]
    try require(
      values.shape == keys.shape && places.shape == [batch, count] && scores.shape == [batch, count]
        && count == min(start, budget) + length, "evicting attention",
      expected: "a state of \(min(start, budget)) entries", got: "\(keys), \(values), \(places), \(scores)")
    let choices = try Choices(scores: scores.values(), batch: batch, count: count, length: length, budget: budget)
    var mask = AttentionMask.everything
    mask.visible = try Tensor(choices.visible, shape: [batch, length, count])
    let mixed = try attention(turned(parts[0]), keys.expanded(at: 2), values.expanded(at: 2), mask: mask)
    let kept = try Tensor(choices.kept, shape: [batch, min(count, budget)])
    func rows(_ x: Tensor, _ shape: [Int]) throws -> Tensor {
      try x.contiguous().reshaped([batch * count, -1]).rows(at: kept).reshaped([batch, kept.shape[1]] + shape)
    }
    state["keys"] = try rows(keys, [width])
    state["values"] = try rows(values, [width])
    state["entry_positions"] = try rows(places, [])
    state["scores"] = try rows(scores, [])
    state.position = start + length
    return try mixed.reshaped(piece.values.shape)
  }

  /// A rank by absolute position, and within a rank by content. In f64 and one order, so that no rounding can depend on the
  /// length of a piece; whole numbers, since choices have no gradient; ranks far apart, so that small steps change no choice.
  private func scored(_ values: Tensor, from start: Int) throws -> [Int32] {
    let all = try values.floats()
    return (0..<all.count / width).map { row in
      let score = scorer.indices.reduce(0.0) { $0 + Double(all[row * width + $1]) * Double(scorer[$1]) }
      let rank = (start + row % values.shape[1]) * 7 % 16
      return Int32(rank * 1_000_000) + Int32(400_000 * tanh(score))
    }
  }

  /// Which entries each query sees, and which remain at the end, as rows of a (batch · count) table.
  private struct Choices {
    var visible: [UInt8]
    var kept: [Int32] = []

    init(scores: [Int32], batch: Int, count: Int, length: Int, budget: Int) throws {
      visible = Array(repeating: 0, count: batch * length * count)
      for row in 0..<batch {
        var alive = Array(0..<count - length)
        for query in 0..<length {
          alive.append(count - length + query)
          for entry in alive { visible[(row * length + query) * count + entry] = 1 }
          guard alive.count > budget else { continue }
          let lowest = alive.indices.min { scores[row * count + alive[$0]] < scores[row * count + alive[$1]] }
          if let lowest { alive.remove(at: lowest) }
        }
        kept += alive.map { Int32(row * count + $0) }
      }
    }
  }
}
