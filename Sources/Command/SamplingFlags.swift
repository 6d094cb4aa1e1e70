import ArgumentParser
import FermataFiles
import FermataInference
import FermataMixers
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
    var options = options(over: try Self.defaults(AtomicFolder.current(folder) + "/generation_config.json"))
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

  /// What the model's author recommends. Keys of other programs are nothing wrong here; a wrong type is.
  private static func defaults(_ path: String) throws -> SamplingOptions {
    var options = SamplingOptions()
    guard PathQuery.status(path) != nil else { return options }
    let json = try StrictJSON.read(path)
    func number(_ key: String) throws -> Float? {
      guard let value = json[key], value != .null else { return nil }
      guard let number = value.doubleValue else {
        throw ConfigurationError(path, "\(key) must be a number, got \(value.kind)")
      }
      return Float(number)
    }
    options.temperature = try number("temperature") ?? options.temperature
    options.topP = try number("top_p") ?? options.topP
    options.minP = try number("min_p") ?? options.minP
    options.repetitionPenalty = try number("repetition_penalty") ?? options.repetitionPenalty
    options.topK = try number("top_k").flatMap { Int(exactly: $0.rounded()) } ?? options.topK
    if json["do_sample"]?.boolValue == false { options.temperature = 0 }
    return options
  }
}
