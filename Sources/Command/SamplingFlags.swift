import ArgumentParser
import FermataFiles
import FermataInference
import FermataModels
import FermataTensors

/// How tokens are drawn: a flag, or else what the model's generation_config.json says, or else Fermata's default.
struct SamplingFlags: ParsableArguments {
  @Option(
    name: [.customLong("temp"), .customLong("temperature")], parsing: .unconditional,
    help: "Temperature; 0 takes the most likely token (default: the model's, or 0.8).")
  var temperature: Float?

  @Option(
    name: .customLong("top-k"), parsing: .unconditional,
    help: "Only the k most likely tokens; 0: all (default: the model's, or 0).")
  var topK: Int?

  @Option(
    name: .customLong("top-p"), parsing: .unconditional,
    help: "The fewest tokens whose probabilities reach p; 1: all (default: the model's, or 0.95).")
  var topP: Float?

  @Option(
    name: .customLong("min-p"), parsing: .unconditional,
    help: "Only tokens at least this share as likely as the first; 0: all (default: the model's, or 0).")
  var minP: Float?

  @Option(
    name: .customLong("repeat-penalty"), parsing: .unconditional,
    help: "Divides the logits of the last 64 tokens; 1: off (default: the model's, or 1).")
  var repetitionPenalty: Float?

  @Option(name: .shortAndLong, help: "Seed; equal seeds give equal texts (default: a random one, shown at the end).")
  var seed: UInt64?

  func validate() throws {
    do {
      try options(over: SamplingOptions()).validate()
    } catch let error as TensorError {
      throw ValidationError(error.description)
    }
  }

  /// The settings for a model in a folder.
  func options(defaultsIn folder: String) throws -> SamplingOptions {
    var options = options(over: try Self.defaults(GenerationConfiguration(folder: folder)))
    try options.validate()
    options.seed = seed ?? UInt64(UInt32.random(in: .min ... .max))
    return options
  }

  private func options(over defaults: SamplingOptions) -> SamplingOptions {
    var options = defaults
    options.temperature = temperature ?? defaults.temperature
    options.topK = topK ?? defaults.topK
    options.topP = topP ?? defaults.topP
    options.minP = minP ?? defaults.minP
    options.repetitionPenalty = repetitionPenalty ?? defaults.repetitionPenalty
    return options
  }

  /// What the model's makers recommend.
  private static func defaults(_ configuration: GenerationConfiguration) -> SamplingOptions {
    var options = SamplingOptions()
    options.temperature = configuration.samples == false ? 0 : configuration.temperature ?? options.temperature
    options.topK = configuration.topK ?? options.topK
    options.topP = configuration.topP ?? options.topP
    options.minP = configuration.minP ?? options.minP
    options.repetitionPenalty = configuration.repetitionPenalty ?? options.repetitionPenalty
    return options
  }
}
