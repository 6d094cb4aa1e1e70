import FermataMixers
import FermataTensors
import FermataTestSupport
import Testing

/// Mechanisms unlike the ones we ship, in simple operations: the protocol must carry what is coming.
enum AwkwardMixer: String, CaseIterable, Sendable {
  case crossAttention, bidirectionalAttention, deltaRule, diagonalPlusLowRank, prefixAttention, evictingAttention
  case chunkGradientMemory

  func subject() throws -> Subject {
    var random = RandomSource(seed: TestRun.seed)
    let mixer: any Mixer =
      switch self {
      case .crossAttention: try CrossAttention(width: 12, heads: 3, random: &random)
      case .bidirectionalAttention: try BidirectionalAttention(width: 9, random: &random)
      case .deltaRule: try DeltaRule(width: 7, keyWidth: 4, random: &random)
      case .diagonalPlusLowRank: try DiagonalPlusLowRank(width: 7, states: 5, random: &random)
      case .prefixAttention: try PrefixAttention(width: 10, random: &random)
      case .evictingAttention: try EvictingAttention(width: 10, budget: 6, random: &random)
      case .chunkGradientMemory: try ChunkGradientMemory(width: 7, keyWidth: 4, chunk: 8, random: &random)
      }
    var subject = Subject(name: rawValue, mixer: mixer, width: width)
    switch self {
    case .crossAttention: subject.contextLength = 11
    case .prefixAttention:
      subject.regionLength = 13
      subject.features = []
    case .evictingAttention, .chunkGradientMemory: subject.features = []
    default: break
    }
    return subject
  }

  private var width: Int {
    switch self {
    case .crossAttention: 12
    case .bidirectionalAttention: 9
    case .prefixAttention, .evictingAttention: 10
    default: 7
    }
  }
}

/// Each keeps the laws within what it declares, and refuses the rest.
@Suite struct AwkwardMixerTests {
  @Test(arguments: AwkwardMixer.allCases) func cut(_ mixer: AwkwardMixer) throws {
    let subject = try mixer.subject()
    try withSteadyProcess {
      try subject.keepsCutLaw(length: 67, from: 0)
      try subject.keepsCutLaw(length: 20, from: 5)
      try subject.keepsCutLaw(length: 1, from: 3)
      try subject.keepsCutLaw(length: 40, from: 5, .bfloat16)
    }
  }

  @Test(arguments: AwkwardMixer.allCases) func merge(_ mixer: AwkwardMixer) throws {
    try withSteadyProcess { try mixer.subject().keepsMergeLaw() }
  }

  @Test(arguments: AwkwardMixer.allCases) func causality(_ mixer: AwkwardMixer) throws {
    try withSteadyProcess { try mixer.subject().isCausal() }
  }

  @Test(arguments: AwkwardMixer.allCases) func gradients(_ mixer: AwkwardMixer) throws {
    try withSteadyProcess {
      try mixer.subject().hasRightGradients(length: 11)
      try mixer.subject().hasRightGradients(length: 11, layout: .all)
    }
  }

  @Test(arguments: AwkwardMixer.allCases) func layouts(_ mixer: AwkwardMixer) throws {
    let subject = try mixer.subject()
    try withSteadyProcess {
      try subject.packsDocuments()
      try subject.ignoresPadding()
      try subject.cutsRaggedGradients()
    }
  }

  @Test(arguments: AwkwardMixer.allCases) func states(_ mixer: AwkwardMixer) throws {
    let subject = try mixer.subject()
    try withSteadyProcess {
      try subject.forksWithoutTrace()
      try subject.walksTrees()
      try subject.keepsTypes()
      if mixer != .prefixAttention { try subject.knowsItsSize() }
      try subject.refusesWhatDoesNotFit()
    }
  }

  @Test func aRegionMustBeSealed() throws {
    var random = TestRandom()
    let subject = try AwkwardMixer.prefixAttention.subject()
    let region = try subject.piece(9, &random)
    var state = try subject.mixer.initialState(batch: 3)
    let whole = try subject.mixer(region, state: &state)
    let before = state
    try expectRefusal("an append before the seal") { _ = try subject.mixer(region, state: &state) }
    try expectIdenticalState(state, before, "the state after the refusal")
    var tree = region
    tree.layout.parents = Array(-1..<8)
    try expectRefusal("a tree before the seal") { _ = try subject.mixer.branches(tree, state: state) }
    try subject.mixer.seal(&state)
    _ = try subject.mixer(region, state: &state)
    // The region is read in both directions: its first output depends on its last token.
    var changed = region
    changed.values = try Tensor.concatenated(
      [region.values.slice(0..<8, axis: 1), subject.values(1, &random)], axis: 1)
    let other = try subject.outputs(changed, state: subject.mixer.initialState(batch: 3))
    let change: Tensor = try other - whole
    #expect(try change.slice(0..<1, axis: 1).absolute().sum().item() > 1e-4)
  }

  @Test func contextsMayBeRagged() throws {
    var random = TestRandom()
    let subject = try AwkwardMixer.crossAttention.subject()
    var piece = try subject.piece(5, &random)
    let lengths = [11, 1, 6]
    piece.contextValid = try Tensor(
      lengths.flatMap { length in (0..<11).map { UInt8($0 < length ? 1 : 0) } }, shape: [3, 11])
    let together = try subject.outputs(piece, state: MixerState())
    for (row, length) in lengths.enumerated() {
      let alone = try Piece(
        piece.values.slice(row..<row + 1, axis: 0),
        context: piece.context?.slice(row..<row + 1, axis: 0).slice(0..<length, axis: 1))
      try expectClose(
        together.slice(row..<row + 1, axis: 0).contiguous(), subject.outputs(alone, state: MixerState()),
        LawTolerance.outputs(.float32), "row \(row)")
    }
  }

  @Test func evictionLeavesPositions() throws {
    var random = TestRandom()
    let subject = try AwkwardMixer.evictingAttention.subject()
    var state = try subject.mixer.initialState(batch: 3)
    _ = try subject.mixer(subject.piece(40, &random), state: &state)
    let places = try state.tensor("entry_positions").values(as: Int32.self)
    let rows: [[Int32]] = (0..<3).map { Array(places[$0 * 6..<$0 * 6 + 6]) }
    for row in rows { #expect(row == Array(Set(row)).sorted(), "positions stand in order") }
    let kinds = Set(rows).count
    #expect(kinds > 1, "rows evict differently")
  }
}
