import FermataTensors

/// Where the tokens of a piece stand: everything about a piece but its values.
public struct Layout: Sendable {
  public var batch: Int
  public var length: Int
  /// u8 (batch, length): 1 at the first token of a document. What came before is forgotten there. nil: none.
  public var resets: Tensor?
  /// u8 (batch, length): 0 for padding, which changes no state and whose outputs mean nothing. nil: all valid.
  public var valid: Tensor?
  /// i32 (batch, length): absolute positions where they are not just the state's position onwards. nil: consecutive.
  public var positions: Tensor?
  /// For trees of drafts: the index in this piece of each token's parent, or -1 when it follows the state.
  /// Parents come before their children. nil: each token follows the one before.
  public var parents: [Int]?

  public init(
    batch: Int, length: Int, resets: Tensor? = nil, valid: Tensor? = nil, positions: Tensor? = nil,
    parents: [Int]? = nil
  ) {
    self.batch = batch
    self.length = length
    self.resets = resets
    self.valid = valid
    self.positions = positions
    self.parents = parents
  }

  /// Whether every row is one valid run of consecutive tokens.
  public var isPlain: Bool { resets == nil && valid == nil && positions == nil && parents == nil }

  /// The layout of the tokens in a range.
  public func slice(_ range: Range<Int>) throws -> Layout {
    try require(
      parents == nil, "Layout.slice", expected: "a piece without a tree", got: "a tree of drafts",
      advice: "run a tree as one piece")
    return Layout(
      batch: batch, length: range.count, resets: try resets?.slice(range, axis: 1).contiguous(),
      valid: try valid?.slice(range, axis: 1).contiguous(), positions: try positions?.slice(range, axis: 1).contiguous()
    )
  }

  /// Throws unless the parts have the shapes they must have.
  func validate() throws {
    for (name, tensor, dtype) in [
      ("resets", resets, DType.uint8), ("valid", valid, .uint8), ("positions", positions, .int32),
    ] {
      guard let tensor else { continue }
      try require(
        tensor.shape == [batch, length] && tensor.dtype == dtype, "layout.\(name)",
        expected: "\(dtype) of shape [\(batch), \(length)]", got: "\(tensor)")
    }
    if let parents {
      try require(
        parents.count == length && parents.indices.allSatisfy { parents[$0] >= -1 && parents[$0] < $0 },
        "layout.parents",
        expected: "\(length) parents, each -1 or the index of an earlier token", got: "\(parents)")
    }
  }
}

/// What a mixer is given: values with their layout and, for cross attention and retrieval, a context.
public struct Piece: Sendable {
  /// (batch, length, width)
  public var values: Tensor
  public var layout: Layout
  /// Another sequence to read from: (batch, context length, any width).
  public var context: Tensor?
  /// u8 (batch, context length): 0 for padding of the context, which nothing reads. nil: all valid.
  public var contextValid: Tensor?

  public init(_ values: Tensor, layout: Layout? = nil, context: Tensor? = nil, contextValid: Tensor? = nil) throws {
    try require(
      values.rank == 3 && values.dtype.isFloatingPoint, "Piece", expected: "floating values (batch, length, width)",
      got: "\(values)")
    self.values = values
    self.layout = layout ?? Layout(batch: values.shape[0], length: values.shape[1])
    self.context = context
    self.contextValid = contextValid
    try require(
      self.layout.batch == values.shape[0] && self.layout.length == values.shape[1], "Piece",
      expected: "a layout for \(values.shape)", got: "(\(self.layout.batch), \(self.layout.length))")
    try self.layout.validate()
    try validateContext()
  }

  private func validateContext() throws {
    if let context {
      try require(
        context.rank == 3 && context.dtype == values.dtype && context.shape[0] == values.shape[0], "Piece",
        expected: "a context (\(values.shape[0]), context length, width) of \(values.dtype)", got: "\(context)")
    }
    if let contextValid {
      try require(
        contextValid.dtype == .uint8 && contextValid.shape == context.map { Array($0.shape.prefix(2)) }, "Piece",
        expected: "U8 contextValid with the first two axes of the context", got: "\(contextValid)")
    }
  }

  /// The tokens in a range, with the same context.
  public func slice(_ range: Range<Int>) throws -> Piece {
    try Piece(
      values.slice(range, axis: 1), layout: layout.slice(range), context: context, contextValid: contextValid)
  }

  /// The piece as mixers of sequences read it. Padding may hold anything; here it holds zeros, so that no NaN in it reaches a
  /// state, an output or a gradient by way of a product with zero.
  /// - Throws: `TensorError` for a tree of drafts, which goes through `branches(_:state:)`.
  public func sequence(for mixer: String) throws -> Piece {
    try require(
      layout.parents == nil, mixer, expected: "a sequence", got: "a tree of drafts", advice: "use branches(_:state:)")
    guard let valid = layout.valid else { return self }
    var copy = self
    copy.values = try Tensor.selecting(valid.expanded(at: 2), values, Tensor.zeros([], values.dtype))
    return copy
  }

  /// Where the tokens stand, for summaries that depend on it.
  /// - Throws: `TensorError` when the layout does not say.
  func absolutePositions(for mixer: String) throws -> Tensor {
    guard let positions = layout.positions else {
      throw TensorError(
        mixer, expected: "a piece with absolute positions", got: "none",
        advice: "set layout.positions: keys depend on where they stand")
    }
    return positions
  }

  public var batch: Int { layout.batch }
  public var length: Int { layout.length }
}
