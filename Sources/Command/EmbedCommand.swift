import ArgumentParser
import FermataFiles
import FermataModels
import FermataTensors
import FermataTokenizers
import Foundation

/// Texts to vectors.
struct EmbedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "embed",
    abstract: "Turn texts into vectors.",
    discussion: """
      Examples:
        printf 'A cat.\\nA dog.\\n' | fermata embed -m bert
        fermata embed -m llama --pooling last --no-normalize < lines.txt > vectors.jsonl

      Each line of standard input is a text; each line of standard output is an object with its index, its number of \
      tokens and its vector: the mean of the hidden states, that of the first token (cls), or that of the last.
      """)

  /// Which hidden states the vector is made of.
  enum Pooling: String, ExpressibleByArgument, CaseIterable {
    case mean, cls, last
  }

  @OptionGroup(title: "Model") var source: ModelSource

  @Option(help: "mean, cls or last (default: last for models that read from left to right, else mean).")
  var pooling: Pooling?

  @Flag(inversion: .prefixedNo, help: "Scale vectors to length 1.")
  var normalize = true

  @OptionGroup(title: "Machine") var machine: MachineOptions

  func run() throws {
    try machine.apply()
    InterruptFlag.install()
    let model = try source.open()
    let tokenizer = try source.tokenizer(of: model)
    let pooling = pooling ?? (model is any CausalModel ? .last : .mean)
    let output = StandardOutput()
    var lines = LineReader(try InputReader("-"))
    var index = 0
    while let first = try lines.next() {
      // Lines that are there already are read together.
      var texts = [first]
      while texts.count < 256, let line = lines.nextAtHand() { texts.append(line) }
      let tokens = try texts.enumerated().map { place, line in
        let tokens = try tokenizer.encode(line, addingSpecialTokens: true, parsingSpecialTokens: false)
        guard !tokens.isEmpty else {
          throw UsageError("line \(index + place + 1) holds no token; leave empty lines out")
        }
        return tokens
      }
      for (tokens, vector) in zip(tokens, try vectors(of: tokens, model, pooling)) {
        let numbers = vector.map { "\($0)" }.joined(separator: ",")
        try output.write("{\"index\":\(index),\"tokens\":\(tokens.count),\"embedding\":[\(numbers)]}\n")
        index += 1
      }
      try InterruptFlag().check()
    }
    try output.flush()
  }

  /// The vectors of texts. Those of equal length go through the model together, so that there is no padding.
  private func vectors(
    of texts: [[Int]], _ model: any PretrainedModel, _ pooling: Pooling
  ) throws -> [[Float]] {
    var vectors = [[Float]](repeating: [], count: texts.count)
    for (length, places) in Dictionary(grouping: texts.indices, by: { texts[$0].count }) {
      let most = max(1, 4096 / length)
      for start in stride(from: 0, to: places.count, by: most) {
        let batch = places[start..<min(start + most, places.count)]
        let ids = try Tensor(batch.flatMap { texts[$0].map { Int32(clamping: $0) } }, shape: [batch.count, length])
        let states = try model.hiddenStates(ModelInputs(tokens: ids))
        for (row, place) in batch.enumerated() { vectors[place] = try vector(of: states.select(row, axis: 0), pooling) }
      }
      try InterruptFlag().check()
    }
    return vectors
  }

  /// One vector of hidden states (length, width).
  private func vector(of states: Tensor, _ pooling: Pooling) throws -> [Float] {
    let pooled =
      switch pooling {
      case .mean: try states.mean(axis: 0, keepingAxis: false)
      case .cls: try states.select(0, axis: 0)
      case .last: try states.select(states.shape[0] - 1, axis: 0)
      }
    let vector = try pooled.floats()
    let size = vector.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    guard size.isFinite else {
      throw TensorError("embed", expected: "finite hidden states", got: "\(size)", advice: "the weights are damaged")
    }
    return normalize && size > 0 ? vector.map { Float(Double($0) / size) } : vector
  }
}

/// Lines of an input, without their ends; what follows the last end is a line when it is not empty.
struct LineReader {
  private let reader: InputReader
  private var waiting: [UInt8] = []
  private var start = 0
  /// Everything before this place has been searched for the end of the line.
  private var searched = 0
  private var isAtEnd = false

  init(_ reader: InputReader) { self.reader = reader }

  /// The next line, where all of it has been read already.
  mutating func nextAtHand() -> [UInt8]? {
    guard let end = waiting[max(start, searched)...].firstIndex(of: UInt8(ascii: "\n")) else {
      searched = waiting.count
      return nil
    }
    defer { start = end + 1 }
    let line = waiting[start..<end]
    return Array(line.last == UInt8(ascii: "\r") ? line.dropLast() : line)
  }

  mutating func next() throws -> [UInt8]? {
    while true {
      if let line = nextAtHand() { return line }
      if isAtEnd {
        defer { start = waiting.count }
        return start < waiting.count ? Array(waiting[start...]) : nil
      }
      waiting.removeFirst(start)
      start = 0
      searched = waiting.count
      // Short reads, so that a pipe that is written slowly is answered line by line where the reader allows it.
      let more = try reader.read(1 << 12)
      waiting += more
      isAtEnd = more.isEmpty
    }
  }
}
