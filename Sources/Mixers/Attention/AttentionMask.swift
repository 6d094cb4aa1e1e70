import CFermataKernels
import FermataLayers
import FermataTensors

/// What each query may see, as a value. Conditions hold together; an empty mask hides nothing.
/// The kernel reads it tile by tile and skips tiles that are wholly hidden.
public struct AttentionMask: Sendable {
  /// Keys at positions up to the query's.
  public var isCausal = false
  /// Only keys less than this many positions back (and ahead, when not causal); 0: no window.
  public var window = 0
  /// Keys at positions below this are never hidden by the window.
  public var sinks = 0
  /// Keys at positions below this are seen by every query, earlier ones included.
  public var prefix = 0
  /// I32 (batch or 1, queries) and (batch or 1, keys): absolute positions. nil: keys 0, 1, …, queries at their end.
  public var queryPositions: Tensor?
  public var keyPositions: Tensor?
  /// I32 (batch or 1, queries) and (batch or 1, keys): equal numbers see each other, negative ones nothing.
  public var queryDocuments: Tensor?
  public var keyDocuments: Tensor?
  /// U8 (batch or 1, queries, keys): 0 hides. For trees of drafts.
  public var visible: Tensor?

  public init(isCausal: Bool = false, window: Int = 0, sinks: Int = 0, prefix: Int = 0) {
    self.isCausal = isCausal
    self.window = window
    self.sinks = sinks
    self.prefix = prefix
  }

  public static let everything = AttentionMask()
  public static let causal = AttentionMask(isCausal: true)

  /// Throws unless the tensors have the shapes they must have, and makes them row-major.
  func validated(batch: Int, queries: Int, keys: Int) throws -> AttentionMask {
    var copy = self
    func check(_ tensor: inout Tensor?, _ shape: [Int], _ dtype: DType, _ name: String) throws {
      guard let value = tensor else { return }
      try require(
        value.dtype == dtype && value.rank == shape.count + 1 && Array(value.shape.dropFirst()) == shape
          && (value.shape[0] == batch || value.shape[0] == 1),
        "attention mask", expected: "\(name): \(dtype) of shape (\(batch) or 1, \(shape))", got: "\(value)")
      tensor = try value.detached.contiguous()
    }
    try check(&copy.queryPositions, [queries], .int32, "query positions")
    try check(&copy.keyPositions, [keys], .int32, "key positions")
    try check(&copy.queryDocuments, [queries], .int32, "query documents")
    try check(&copy.keyDocuments, [keys], .int32, "key documents")
    try check(&copy.visible, [queries, keys], .uint8, "visible")
    try require(
      (queryDocuments == nil) == (keyDocuments == nil), "attention mask",
      expected: "documents of queries and keys, or neither",
      got: "one of them")
    try require(
      window >= 0 && sinks >= 0 && prefix >= 0, "attention mask", expected: "window, sinks and prefix of at least 0",
      got: "\(window), \(sinks), \(prefix)")
    return copy
  }

  /// The kernel's form of it; valid while this mask lives.
  var kernelMask: fm_attention_mask {
    var mask = fm_attention_mask()
    mask.causal = isCausal ? 1 : 0
    mask.window = Int64(window)
    mask.sinks = Int64(sinks)
    mask.prefix = Int64(prefix)
    func rowStride(_ tensor: Tensor) -> Int64 { tensor.shape[0] == 1 ? 0 : Int64(tensor.strides[0]) }
    if let t = queryPositions {
      (mask.query_positions, mask.query_position_stride) = (UnsafePointer(t.intPointer), rowStride(t))
    }
    if let t = keyPositions {
      (mask.key_positions, mask.key_position_stride) = (UnsafePointer(t.intPointer), rowStride(t))
    }
    if let t = queryDocuments {
      (mask.query_documents, mask.query_document_stride) = (UnsafePointer(t.intPointer), rowStride(t))
    }
    if let t = keyDocuments {
      (mask.key_documents, mask.key_document_stride) = (UnsafePointer(t.intPointer), rowStride(t))
    }
    if let t = visible {
      mask.visible = UnsafePointer(t.bytePointer)
      mask.visible_batch_stride = rowStride(t)
      mask.visible_row_stride = Int64(t.strides[1])
    }
    return mask
  }

  /// The same as bytes (batch or 1, queries, keys): the oracle of the kernel's reading.
  package func dense(batch: Int, queries: Int, keys: Int) throws -> [[[Bool]]] {
    func rows(_ tensor: Tensor?, _ count: Int, _ fallback: (Int) -> Int32) throws -> [[Int32]] {
      guard let tensor else { return Array(repeating: (0..<count).map(fallback), count: batch) }
      let values = try tensor.values(as: Int32.self)
      return (0..<batch).map { row in
        let start = tensor.shape[0] == 1 ? 0 : row * count
        return Array(values[start..<start + count])
      }
    }
    let queryPositions = try rows(self.queryPositions, queries) { Int32($0 + keys - queries) }
    let keyPositions = try rows(self.keyPositions, keys) { Int32($0) }
    let queryDocuments = try rows(self.queryDocuments, queries) { _ in 0 }
    let keyDocuments = try rows(self.keyDocuments, keys) { _ in 0 }
    let extra = try visible?.broadcast(to: [batch, queries, keys]).contiguous().values(as: UInt8.self)
    return (0..<batch).map { row in
      (0..<queries).map { query in
        (0..<keys).map { key in
          let (q, k) = (Int(queryPositions[row][query]), Int(keyPositions[row][key]))
          let (d, e) = (queryDocuments[row][query], keyDocuments[row][key])
          if d < 0 || e < 0 || d != e { return false }
          if let extra, extra[(row * queries + query) * keys + key] == 0 { return false }
          if k < prefix { return true }
          if isCausal && k > q { return false }
          if window > 0 && k >= sinks && (k <= q - window || (!isCausal && k >= q + window)) { return false }
          return true
        }
      }
    }
  }
}
