import Fermata

/// Steps of a training run on one batch of random tokens: loss, gradient, AdamW. A reference, so that a sample goes on
/// from the one before.
final class TrainingStep {
  private(set) var model: LanguageModel
  let piece: TokenPiece
  private var optimizer = AdamW(beta1: 0.9, beta2: 0.999, weightDecay: 0.01)
  static let learningRate = 1e-3

  init(_ configuration: ModelConfiguration, dtype: DType, batch: Int, length: Int) throws {
    model = try LanguageModel(configuration, seed: 1)
    model.computeType = dtype
    piece = try Self.tokens(batch: batch, length: length, vocabulary: configuration.vocabularySize)
  }

  static func tokens(batch: Int, length: Int, vocabulary: Int) throws -> TokenPiece {
    var random = RandomSource(seed: 2)
    func draw() -> [Int32] {
      (0..<batch * length).map { _ in Int32(random.nextUniform() * Float(vocabulary)) }
    }
    let shape = [batch, length]
    return TokenPiece(
      tokens: try Tensor(draw(), shape: shape), targets: try Tensor(draw(), shape: shape),
      layout: Layout(batch: batch, length: length))
  }

  /// Mean loss and its gradient.
  func gradient() throws -> LossGradient { try gradient(of: model) }

  /// The same of another model on the same tokens.
  func gradient(of model: LanguageModel) throws -> LossGradient {
    try PiecewiseGradient.truncated(
      model, piece, state: model.initialState(batch: piece.layout.batch), scale: 1 / Float(piece.tokens.count))
  }

  /// One step; returns the mean loss before it.
  @discardableResult func advance() throws -> Double {
    let found = try gradient()
    try optimizer.update(&model, gradients: found.gradients, learningRate: Self.learningRate)
    return found.loss / Double(piece.tokens.count)
  }
}
