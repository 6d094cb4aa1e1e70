import ArgumentParser
import Fermata

/// Shape of a new model.
struct ModelOptions: ParsableArguments {
  @Option(help: "A config.json for the model; the flags below are for models without one.")
  var config: String?

  @Option(parsing: .unconditional, help: "Width of the residual stream (default 256).")
  var width: Int?

  @Option(parsing: .unconditional, help: "Number of layers (default 6).")
  var layers: Int?

  @Option(
    help: "Mixers of the layers, repeated in order, by name: two linear layers to one windowed attention by default.")
  var mixers: String?

  @Option(
    name: .customLong("feed-forward"), parsing: .unconditional,
    help: "Width inside the feed-forward layers; 0 for layers of mixers alone (default 8/3 of the width).")
  var feedForwardWidth: Int?

  @Option(parsing: .unconditional, help: "Attention heads a layer (default: one for every 64 of the width).")
  var heads: Int?

  @Option(parsing: .unconditional, help: "Window of softmax attention; 0 for none (default 256).")
  var window: Int?

  @Option(
    name: .customLong("from"),
    help: "A model or run folder whose weights to start from (and whose configuration to use).")
  var initial: String?

  var isGiven: Bool {
    config != nil || hasFlags || initial != nil
  }

  private var hasFlags: Bool {
    width != nil || layers != nil || mixers != nil || feedForwardWidth != nil || heads != nil || window != nil
  }

  func configuration() throws -> ModelConfiguration {
    if (config != nil || initial != nil) && hasFlags {
      throw ValidationError(
        "--width, --layers, --mixers, --feed-forward, --heads and --window contradict "
          + "\(config != nil ? "--config" : "--from"), which says them already"
      )
    }
    if let initial { return try bytes(ModelFolder.configuration(of: ModelFolder.resolve(initial)), initial) }
    if let config {
      return try bytes(ModelConfiguration(json: StrictJSON.read(config), place: config), config)
    }
    let width = width ?? 256
    let heads = heads ?? max(1, width / 64)
    let layers = layers ?? 6
    // Models of one or two layers take the beginning of the default pattern.
    let standard = ["gated_linear_attention", "gated_linear_attention", "softmax_attention"].prefix(max(layers, 1))
    let names = mixers?.split(separator: ",").map(String.init) ?? Array(standard)
    try requireTakers(names)
    let list = names.map { mixer($0, heads: heads, width: width) }
    guard layers >= list.count || mixers == nil else {
      throw ValidationError(
        "--mixers names \(list.count) mixers for \(layers) layers; give --layers \(list.count) or more")
    }
    return try ModelConfiguration(width: width, layers: layers, feedForwardWidth: feedForwardWidth, mixers: list)
  }

  private static let headKeys = ["num_heads", "num_attention_heads"]

  private static func keys(of name: String) -> [String] {
    MixerRegistry.standard.entries.first { $0.name == name }?.optionKeys ?? []
  }

  /// Refuses flags that would do nothing. Names that are unknown are left to the registry, which says what is known.
  private func requireTakers(_ names: [String]) throws {
    if let window, window < 0 { throw ValidationError("--window must be at least 0, got \(window)") }
    let known = Set(MixerRegistry.standard.entries.map(\.name))
    guard names.allSatisfy(known.contains) else { return }
    let keys = Set(names.flatMap(Self.keys))
    let list = names.joined(separator: ", ")
    if heads != nil && keys.isDisjoint(with: Self.headKeys) {
      throw ValidationError("--heads has no effect: none of the mixers (\(list)) has heads; leave it out")
    }
    if window != nil && !keys.contains("sliding_window") {
      throw ValidationError("--window has no effect: none of the mixers (\(list)) has a window; leave it out")
    }
  }

  /// The command reads and writes bytes.
  private func bytes(_ configuration: ModelConfiguration, _ place: String) throws -> ModelConfiguration {
    try configuration.requireBytes(place)
    return configuration
  }

  /// A mixer's settings from what the flags say; the rest is its own defaults. Heads that no flag asks for go only to mixers
  /// that cannot do without a number: for recurrences one head is not a default but another mechanism, and Mamba-2 counts its own.
  private func mixer(_ name: String, heads: Int, width: Int) -> JSONValue {
    var fields: [String: JSONValue] = ["type": .string(name)]
    let keys = Self.keys(of: name)
    var random = RandomSource(seed: 0)
    let bare: JSONValue = ["type": .string(name)]
    // Asked at a width that costs nothing; whether the real one can be is said later.
    let asked = min(max(width, 1), 1024)
    let hasDefaults = (try? MixerRegistry.standard.make(width: asked, configuration: bare, random: &random)) != nil
    for key in Self.headKeys where keys.contains(key) && (self.heads != nil || !hasDefaults) {
      fields[key] = .int(heads)
    }
    let window = window ?? 256
    if keys.contains("sliding_window"), window > 0 { fields["sliding_window"] = .int(window) }
    return .object(fields)
  }
}

/// What is read and how it is divided.
struct DataOptions: ParsableArguments {
  @Option(help: "Text between documents inside one file.")
  var separator: String?

  @Option(help: "Part of the text held out for validation (default 0.1).")
  var validationFraction: Double?

  @Flag(help: "Leave out documents that mostly repeat others.")
  var deduplicate = false

  @Flag(help: "Write the two parts of the text to OUTPUT/data.")
  var saveSplit = false

  var isGiven: Bool { separator != nil || validationFraction != nil || deduplicate }

  func apply(to settings: inout RunSettings) {
    settings.separator = separator
    settings.validationFraction = validationFraction ?? settings.validationFraction
    settings.removesNearDuplicates = deduplicate
  }
}

/// How training goes.
struct OptimizationOptions: ParsableArguments {
  @Option(parsing: .unconditional, help: "Optimiser steps (default 1000).") var steps: Int?
  @Option(help: "Train about this long instead of --steps: 90s, 2m, 1h.") var time: String?
  @Option(name: .shortAndLong, parsing: .unconditional, help: "Rows of a batch (default 8).") var batch: Int?
  @Option(parsing: .unconditional, help: "Tokens of a row, or of a piece of a stream (default 512).") var length: Int?
  @Option(parsing: .unconditional, help: "Batches added up for one step (default 1).") var accumulation: Int?
  @Option(
    name: [.customLong("learning-rate"), .customLong("lr")], parsing: .unconditional,
    help: "Peak learning rate (default 0.002).")
  var learningRate: Double?
  @Option(help: "Schedule of the learning rate: \(Schedules.names.joined(separator: ", ")) (default cosine).")
  var schedule: String?
  @Option(parsing: .unconditional, help: "Steps of linear warm-up (default 50).") var warmup: Int?
  @Option(parsing: .unconditional, help: "AdamW's weight decay (default 0.1).") var weightDecay: Double?
  @Option(parsing: .unconditional, help: "Largest norm of the gradient; 0: none (default 1).") var clip: Double?
  @Option(
    parsing: .unconditional,
    help: "Part of the features dropped in training, against learning small texts by heart (default 0).")
  var dropout: Double?
  @Option(name: .shortAndLong, parsing: .unconditional, help: "Seed of weights, split and order (default 0).") var seed:
    UInt64?
  @Option(help: "Type of activations: f32 or bf16 (default f32).") var dtype: String?
  @Flag(help: "Read the text as one unbroken stream, carrying the state from piece to piece.") var stream = false
  @Option(help: "Gradients across the pieces of a stream: truncated or exact (default truncated).") var gradient:
    String?
  @Option(parsing: .unconditional, help: "Pieces that one exact gradient spans (default 8).") var pieces: Int?
  @Option(parsing: .unconditional, help: "Steps between validations; 0: only at the end (default 100).")
  var validationInterval: Int?
  @Option(parsing: .unconditional, help: "Most batches of one validation (default 20).") var validationBatches: Int?
  @Option(parsing: .unconditional, help: "Steps between checkpoints; 0: only at the end (default 100).")
  var checkpointInterval: Int?
  @Option(help: "Start a stream from a state saved by generate or score.") var loadState: String?

  var isGiven: Bool {
    steps != nil || time != nil || batch != nil || length != nil || accumulation != nil || learningRate != nil
      || schedule != nil || warmup != nil || weightDecay != nil || clip != nil || dropout != nil || seed != nil
      || dtype != nil || stream
      || gradient != nil || pieces != nil || validationInterval != nil || validationBatches != nil
      || checkpointInterval != nil || loadState != nil
  }

  func options() throws -> TrainingOptions {
    if steps != nil && time != nil { throw ValidationError("give --steps or --time, not both") }
    if pieces != nil && gradient != StreamGradient.exact.rawValue {
      throw ValidationError(
        "--pieces counts what one exact gradient spans; give --gradient exact with it or leave it out")
    }
    var options = TrainingOptions()
    options.steps = steps ?? options.steps
    options.batch = batch ?? options.batch
    options.length = length ?? options.length
    options.accumulation = accumulation ?? options.accumulation
    options.learningRate = learningRate ?? options.learningRate
    options.schedule = schedule ?? options.schedule
    options.warmup = warmup ?? options.warmup
    options.weightDecay = weightDecay ?? options.weightDecay
    options.clip = clip ?? options.clip
    options.dropout = dropout ?? options.dropout
    options.seed = seed ?? options.seed
    options.packing = stream ? .stream : .rows
    options.piecesPerContext = pieces ?? options.piecesPerContext
    options.validationInterval = validationInterval ?? options.validationInterval
    options.validationBatches = validationBatches ?? options.validationBatches
    options.checkpointInterval = checkpointInterval ?? options.checkpointInterval
    options.computeType = try ComputeType.parse(dtype ?? "f32")
    if let gradient {
      guard let kind = StreamGradient(rawValue: gradient) else {
        throw ValidationError("--gradient must be truncated or exact, got '\(gradient)'")
      }
      options.streamGradient = kind
    }
    try options.validate()
    return options
  }
}

/// "90s", "2m", "1.5h".
enum TimeSpan {
  static func seconds(_ text: String) throws -> Double {
    let units: [Character: Double] = ["s": 1, "m": 60, "h": 3600]
    guard let unit = text.last.flatMap({ units[$0] }), let number = Double(text.dropLast()), number > 0,
      number * unit <= RunSettings.longestTime
    else {
      throw ValidationError(
        "--time must be a number with s, m or h behind it (90s, 2m, 1.5h), at most 10⁹ seconds, got '\(text)'")
    }
    return number * unit
  }
}
