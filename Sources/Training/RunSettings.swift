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
