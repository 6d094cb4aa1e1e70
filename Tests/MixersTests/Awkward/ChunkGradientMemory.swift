import FermataLayers
import FermataMixers
import FermataTensors

/// A linear memory that learns as it reads, its gradients taken at the start of each chunk (Sun et al. 2024):
///
///     W_t = W_0 - η Σ_{s ≤ t in the chunk} k_sᵀ (k_s W_0 - v_s),   o_t = q_t W_t,   W_0 of a chunk = W_t at the end of the last
///
/// Chunks are of absolute positions: the state carries W_0 and the sum so far of the unfinished chunk, so a cut inside a
/// chunk changes nothing. Documents that begin inside a chunk would, and are refused.
struct ChunkGradientMemory: Mixer {
  var projection: Linear
  let width: Int
  let keyWidth: Int
  let chunk: Int
  private let rate: Float = 0.3

  init(width: Int, keyWidth: Int, chunk: Int, random: inout RandomSource) throws {
    (self.width, self.keyWidth, self.chunk) = (width, keyWidth, chunk)
    projection = try Linear(width, 2 * keyWidth + width, random: &random)
  }

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws { try visitor.module("in_proj", &projection) }

  var laws: Laws {
    Laws(cut: .causal, merge: .none(reason: "a stretch that begins inside a chunk needs the chunk's memory"))
  }
  func stateBytes(batch: Int, length: Int, dtype: DType) -> Int { 8 * batch * keyWidth * width }

  func initialState(batch: Int) throws -> MixerState {
    let zero = try Tensor.zeros([batch, keyWidth, width])
    return MixerState(tensors: ["memory": zero, "unfinished": zero])
  }

  func callAsFunction(_ piece: Piece, state: inout MixerState) throws -> Tensor {
    try require(
      piece.layout.isPlain, "chunk gradient memory", expected: "one document without padding", got: "another layout",
      advice: "chunks are of absolute positions")
    var (memory, unfinished) = (try state.tensor("memory"), try state.tensor("unfinished"))
    for tensor in [memory, unfinished] {
      try require(
        tensor.shape == [piece.batch, keyWidth, width] && tensor.dtype == .float32, "chunk gradient memory",
        expected: "a state of F32 \([piece.batch, keyWidth, width])", got: "\(tensor)")
    }
    let parts = try projection(piece.values).cast(to: .float32).split(sizes: [keyWidth, keyWidth, width], axis: 2)
    func unit(_ x: Tensor) throws -> Tensor {
      try x * (x.squared().sum(axis: 2, keepingAxis: true) + 1e-6).reciprocalSquareRoot()
    }
    let (query, key) = (try unit(parts[0]), try unit(parts[1]))
    var outputs: [Tensor] = []
    for index in 0..<piece.length {
      func row(_ x: Tensor) throws -> Tensor { try x.slice(index..<index + 1, axis: 1) }
      let k = try row(key)
      unfinished = try unfinished + matmul(k.transposed(1, 2), matmul(k, memory) - row(parts[2]))
      let now = try memory - unfinished * rate
      outputs.append(try matmul(row(query), now))
      if (state.position + index + 1) % chunk == 0 {
        memory = now
        unfinished = try unfinished.detached * 0
      }
    }
    let result = try Tensor.concatenated(outputs, axis: 1).cast(to: piece.values.dtype)
    state["memory"] = memory
    state["unfinished"] = unfinished
    state.position += piece.length
    return result
  }
}
