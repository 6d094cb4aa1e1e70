import FermataFiles
import FermataTasks
import FermataTensors
import Foundation

/// Everything that makes a run what it is: saved with every checkpoint, so that resuming needs only the folder.
public struct RunSettings: Codable, Sendable, Equatable {
  /// A file, a folder, or "-" for standard input.
  public var data: String
  /// Text between documents inside one file.
  public var separator: String?
  /// Part of the bytes held out, in whole documents where there are several.
  public var validationFraction = 0.1
  /// Leave out documents that mostly repeat others.
  public var removesNearDuplicates = false
  /// Seconds to train for; the number of steps is set from the speed of the first ones.
  public var seconds: Double?
  /// A model folder whose weights the run starts from; nil: fresh ones.
  public var initialModel: String?
  /// A state file that an unbroken stream starts from.
  public var initialState: String?
  public var options: TrainingOptions

  public init(data: String, options: TrainingOptions) {
    self.data = data
    self.options = options
  }

  /// Settings that the record lacks, because an earlier version wrote it, keep their defaults.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    data = try container.decode(String.self, forKey: .data)
    separator = try container.decodeIfPresent(String.self, forKey: .separator)
    validationFraction = try container.decodeIfPresent(Double.self, forKey: .validationFraction) ?? validationFraction
    removesNearDuplicates =
      try container.decodeIfPresent(Bool.self, forKey: .removesNearDuplicates) ?? removesNearDuplicates
    seconds = try container.decodeIfPresent(Double.self, forKey: .seconds)
    initialModel = try container.decodeIfPresent(String.self, forKey: .initialModel)
    initialState = try container.decodeIfPresent(String.self, forKey: .initialState)
    options = try container.decode(TrainingOptions.self, forKey: .options)
  }

  /// The longest time that a run may be given, in seconds: some thirty years.
  public static let longestTime = 1e9

  /// Throws when a setting makes no sense.
  public func validate() throws {
    try options.validate()
    if let seconds, !(seconds > 0 && seconds <= Self.longestTime) {
      throw TrainingError.setting("time", "must be above 0 and at most 10⁹ seconds, got \(seconds)")
    }
  }

  /// Whether the text comes from standard input, which can be read once only.
  var readsStandardInput: Bool { data == "-" }

  /// The same settings with the data's whole path, so that a run can be resumed from any folder.
  func withAbsoluteData() -> RunSettings {
    guard !readsStandardInput, !data.hasPrefix("/") else { return self }
    var copy = self
    copy.data = FileManager.default.currentDirectoryPath + "/" + data
    return copy
  }
}

/// The text of a run, read and divided.
public struct RunData: Sendable {
  public var training: [Document]
  public var validation: [Document]
  /// Documents left out because they mostly repeat others.
  public var removed: [NearDuplicates.Removal]
  /// Files that gave no document.
  public var skipped: [Corpus.Skipped]

  /// Reads, removes near-duplicates if asked to, and holds documents out.
  public init(_ settings: RunSettings) throws {
    var corpus = try Corpus.load(settings.data, separator: settings.separator)
    skipped = corpus.skipped
    removed = []
    if settings.removesNearDuplicates { (corpus, removed) = NearDuplicates().remove(from: corpus) }
    try corpus.require(bytes: settings.options.length + 1)
    let split = try HeldOutSplit(corpus, fraction: settings.validationFraction, seed: settings.options.seed)
    try split.require(sequenceLength: settings.options.length)
    (training, validation) = (split.training, split.validation)
  }

  public static func size(_ documents: [Document]) -> Int { documents.reduce(0) { $0 + $1.bytes.count } }

  /// Writes both parts as plain files, documents joined, for comparison with other compressors.
  public func save(to folder: String) throws {
    try Folders.make(folder)
    for (name, documents) in [("training.txt", training), ("validation.txt", validation)] {
      try AtomicFile.write(documents.reduce(into: Data()) { $0.append($1.bytes) }, to: folder + "/" + name)
    }
  }
}
