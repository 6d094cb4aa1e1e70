import FermataModels
import FermataTasks
import Foundation

extension Trainer {
  /// Trains a byte-level model on one text.
  /// - Throws: `DataError` when the text is too short to fill one row, `TrainingError` for options that make no sense.
  public init(_ model: LanguageModel, text: String, options: TrainingOptions = TrainingOptions()) throws {
    try options.validate()
    let document = TokenDocument(Document(name: "the text", bytes: Data(text.utf8)))
    let batches = try PackedBatches(
      [document], batch: options.batch, length: options.length,
      beginToken: Int32(clamping: model.configuration.beginToken), mode: options.packing, seed: options.seed)
    try self.init(model, batches: batches, options: options)
  }
}
