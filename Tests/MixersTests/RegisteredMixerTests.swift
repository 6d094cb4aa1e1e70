import FermataFiles
import FermataMixers
import FermataTensors
import FermataTestSupport
import Testing

/// One example of one registered mixer.
struct MixerExample: Sendable, CustomTestStringConvertible {
  var entry: MixerRegistry.Entry
  var example: String

  var testDescription: String { "\(entry.name) \(example)" }

  static let all = MixerRegistry.standard.entries.flatMap { entry in
    entry.examples.map { MixerExample(entry: entry, example: $0) }
  }

  /// The example at the first widths it accepts, odd ones first.
  func subjects(_ count: Int = 1) throws -> [Subject] {
    var subjects: [Subject] = []
    for width in [33, 22, 24, 16] where subjects.count < count {
      guard let mixer = try? mixer(width) else { continue }
      subjects.append(Subject(name: "\(entry.name) \(example) of width \(width)", mixer: mixer, width: width))
    }
    if subjects.isEmpty { throw Mismatch("\(testDescription): accepts none of the widths tried") }
    return subjects
  }

  func mixer(_ width: Int, registry: MixerRegistry = .standard) throws -> any Mixer {
    guard case .object(var fields) = try StrictJSON.parse(Array(example.utf8), place: "example") else {
      throw Mismatch("\(example) is no object")
    }
    fields["type"] = .string(entry.name)
    var random = RandomSource(seed: TestRun.seed)
    return try registry.make(width: width, configuration: .object(fields), random: &random)
  }
}

/// Every law for every example of every mixer in the table, on every processor path, on poisoned memory.
/// A mixer that is added to the table is found here without further work.
@Suite struct RegisteredMixerTests {
  private func check(
    _ example: MixerExample, widths: Int = 1, emulatesTiles: Bool = false, _ law: (Subject) throws -> Void
  ) throws {
    for subject in try example.subjects(widths) {
      try onEveryPath(emulatesTiles: emulatesTiles) { _ in try law(subject) }
    }
  }

  @Test(arguments: MixerExample.all) func cut(_ example: MixerExample) throws {
    try check(example) { try $0.keepsCutLaw(length: 100, from: 5) }
  }

  @Test(arguments: MixerExample.all) func cutAtAwkwardLengths(_ example: MixerExample) throws {
    try check(example, widths: 2) { subject in
      for length in [1, 2, 63, 64, 65] { try subject.keepsCutLaw(length: length, from: length % 2 * 70) }
    }
  }

  @Test(arguments: MixerExample.all) func cutInBF16(_ example: MixerExample) throws {
    try check(example, emulatesTiles: true) { try $0.keepsCutLaw(length: 100, from: 5, .bfloat16) }
  }

  @Test(arguments: MixerExample.all) func merge(_ example: MixerExample) throws {
    try check(example) { try $0.keepsMergeLaw() }
  }

  @Test(arguments: MixerExample.all) func mergedGradients(_ example: MixerExample) throws {
    for subject in try example.subjects() { try subject.hasGradientsThroughSummaries() }
  }

  @Test(arguments: MixerExample.all) func causality(_ example: MixerExample) throws {
    try check(example) { try $0.isCausal() }
  }

  @Test(arguments: MixerExample.all) func gradients(_ example: MixerExample) throws {
    try check(example) { try $0.hasRightGradients(length: 23) }
    try check(example) { try $0.hasRightGradients(length: 17, layout: .packing) }
    try check(example) { try $0.hasRightGradients(length: 17, layout: .all) }
    for subject in try example.subjects(2) {
      for length in [1, 2, 65] { try withSteadyProcess { try subject.hasRightGradients(length: length) } }
    }
  }

  @Test(arguments: MixerExample.all) func packing(_ example: MixerExample) throws {
    try check(example) { try $0.packsDocuments() }
  }

  @Test(arguments: MixerExample.all) func padding(_ example: MixerExample) throws {
    try check(example) { try $0.ignoresPadding() }
    for subject in try example.subjects() { try subject.ignoresWhatPaddingHolds() }
  }

  @Test(arguments: MixerExample.all) func raggedGradients(_ example: MixerExample) throws {
    try check(example) { try $0.cutsRaggedGradients() }
  }

  @Test(arguments: MixerExample.all) func forks(_ example: MixerExample) throws {
    try check(example) { try $0.forksWithoutTrace() }
  }

  @Test(arguments: MixerExample.all) func trees(_ example: MixerExample) throws {
    try check(example) { try $0.walksTrees() }
  }

  @Test(arguments: MixerExample.all) func types(_ example: MixerExample) throws {
    try check(example, widths: 2) { try $0.keepsTypes() }
  }

  @Test(arguments: MixerExample.all) func converted(_ example: MixerExample) throws {
    // Rounding of weights is the same on every path.
    for subject in try example.subjects() { try subject.keepsLawsWhenConverted() }
  }

  @Test(arguments: MixerExample.all) func size(_ example: MixerExample) throws {
    try check(example, widths: 2) { try $0.knowsItsSize() }
  }

  @Test(arguments: MixerExample.all) func emptyPieces(_ example: MixerExample) throws {
    try check(example) { try $0.passesOverNothing() }
  }

  @Test(arguments: MixerExample.all) func errors(_ example: MixerExample) throws {
    try check(example) { try $0.refusesWhatDoesNotFit() }
  }

  @Test(arguments: MixerExample.all) func threads(_ example: MixerExample) throws {
    for subject in try example.subjects() { try subject.ignoresThreads() }
  }
}
