import FermataFiles
import FermataModels
import FermataTensors
import FermataTestSupport
import FermataTokenizers
import Foundation
import Testing

@testable import FermataInference

@Suite(.serialized) struct StreamingTests {
  static let hybrid: [JSONValue] = [
    ["type": "gated_linear_attention", "num_heads": 2],
    ["type": "softmax_attention", "num_attention_heads": 2, "sliding_window": 64],
  ]

  private func model(_ mixers: [JSONValue] = hybrid, width: Int = 32) throws -> LanguageModel {
    try LanguageModel(
      ModelConfiguration(width: width, layers: 2, feedForwardWidth: 2 * width, mixers: mixers), seed: 8)
  }

  private func run(_ generator: inout Generator) throws -> [UInt8] {
    var bytes: [UInt8] = []
    while let next = try generator.next() { bytes += next }
    return bytes
  }

  @Test func scoresAreThoseOfTheLoss() throws {
    let model = try model()
    var random = TestRandom()
    let tokens = [256] + (0..<300).map { _ in random.int(0...255) }
    func score(piece: Int) throws -> [Float] {
      var session = try StreamingSession(model, pieceLength: piece)
      let scores = try session.score(tokens)
      #expect(scores[0] == nil)
      return scores.dropFirst().compactMap { $0 }
    }
    var state = try model.initialState(batch: 1)
    let whole = try model.loss(
      Tensor(tokens.dropLast().map { Int32($0) }, shape: [1, 300]),
      targets: Tensor(tokens.dropFirst().map { Int32($0) }, shape: [1, 300]), state: &state, scale: 1
    ).losses.floats()
    for piece in [1, 7, 64, 512] {
      for (a, b) in zip(try score(piece: piece), whole) { #expect(abs(a - b) < 1e-4, "piece \(piece)") }
    }
  }

  @Test func theLengthOfTheSequenceIsKept() throws {
    var session = try StreamingSession(model())
    session.limitLength(to: 12)
    try session.read([1, 2, 3])
    let before = session.logits
    let error = #expect(throws: TensorError.self) { try session.read(Array(repeating: 4, count: 10)) }
    #expect(error?.expected.contains("at most 12 tokens") == true)
    #expect(session.position == 3 && session.logits == before)
    var options = GenerationOptions()
    (options.limit, options.ignoresEnd) = (60, true)
    var generator = try Generator(session, tokenizer: ByteTokenizer(), tokens: [4], options: options)
    #expect(try run(&generator).count == 8 && generator.end == .length)
    session.limitLength(to: nil)
    try session.read(Array(repeating: 4, count: 10))
  }

  @Test func generationIsDecidedByTheSeedAndStopsWhereAsked() throws {
    let model = try model()
    var options = GenerationOptions()
    options.limit = 60
    options.ignoresEnd = true
    options.sampling.seed = 5
    var first = try Generator(StreamingSession(model), prompt: Array("Once".utf8), options: options)
    var second = first
    let text = try run(&first)
    #expect(text.count == 60 && first.end == .length)
    #expect(try run(&second) == text)
    // A stop text ends the output before itself; what might have begun one is not lost.
    options.stops = [String(decoding: [], as: UTF8.self), String(decoding: text[20..<23], as: UTF8.self)]
    let asASCII = text.allSatisfy { $0 < 128 }
    if asASCII {
      var stopped = try Generator(StreamingSession(model), prompt: Array("Once".utf8), options: options)
      let short = try run(&stopped)
      #expect(stopped.end == .stop && text.starts(with: short) && short.count <= 20)
    }
    options.limit = 0
    var none = try Generator(StreamingSession(model), options: options)
    #expect(try run(&none).isEmpty)
    options.limit = -1
    #expect(throws: TensorError.self) { try Generator(StreamingSession(model), options: options) }
  }

  @Test func sessionsFork() throws {
    var session = try StreamingSession(model())
    try session.read([256, 65, 66])
    let expected = session
    var fork = session
    try fork.read(Array(70..<90))
    #expect(session.logits == expected.logits && session.position == 3 && fork.position == 23)
    var again = expected
    try session.read([67])
    try again.read([67])
    #expect(session.logits == again.logits)
  }

  @Test func asyncStreamYieldsAndCancels() async throws {
    let model = try model()
    var options = GenerationOptions()
    options.limit = nil
    options.ignoresEnd = true
    var pieces = 0
    for try await text in model.stream(from: "a", options: options) {
      #expect(!text.isEmpty)
      pieces += 1
      if pieces == 20 { break }
    }
    #expect(pieces == 20)
    options.sampling.temperature = -1
    await #expect(throws: (any Error).self) {
      for try await _ in model.stream(from: "a", options: options) {}
    }
  }

  /// Memory of a stream is that of its state, and a token costs the same wherever it stands: the 1,000,000 tokens with
  /// FERMATA_LONG_TESTS=1, 20,000 (memory alone) otherwise.
  @Test(arguments: [
    hybrid, [["type": "gated_linear_attention", "num_heads": 2, "gate": "scalar"]], [["type": "lstm"]],
  ])
  func streamsInConstantMemory(_ mixers: [JSONValue]) throws {
    try withSteadyProcess {
      let isLong = ProcessInfo.processInfo.environment["FERMATA_LONG_TESTS"] == "1"
      let total = isLong ? 1_000_000 : 20_000
      var session = try StreamingSession(model(mixers))
      try session.read([256])
      func read(_ count: Int) throws -> Double {
        let start = DispatchTime.now().uptimeNanoseconds
        for index in 0..<count { try session.read([65 + index % 26]) }
        return Double(DispatchTime.now().uptimeNanoseconds - start) / Double(count)
      }
      _ = try read(2_000)
      let resident = residentBytes()
      let measured = try Memory.measure {
        let early = try (0..<5).map { _ in try read(total / 50) }.sorted()[2]
        _ = try read(total - 10 * (total / 50) - 2_000)
        return (early, try (0..<5).map { _ in try read(total / 50) }.sorted()[2])
      }
      let (early, late) = measured.result
      let growth = residentBytes() - resident
      print(
        "\(total) tokens: \(early / 1000) then \(late / 1000) µs a token; tensors at most \(measured.peak) bytes more, "
          + "\(measured.left) left; resident \(growth) bytes more")
      #expect(measured.peak < 1 << 20 && abs(measured.left) < 1 << 20)
      // What belongs to the whole process is told apart from other tests only when they run one by one.
      if isLong { #expect(growth < 1 << 20) }
      if isLong { #expect(late <= 1.05 * early) }
    }
  }

  private func residentBytes() -> Int {
    let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
    return (text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 4096
  }
}
