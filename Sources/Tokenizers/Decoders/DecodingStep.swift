import FermataFiles

/// One step from tokens back to text. It is fed piece by piece and gives out what no later piece can change.
protocol DecodingStep: Sendable {
  /// - Throws: `TokenizerError` for a text that takes too long.
  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) throws
  /// Gives out what waited for what comes next.
  mutating func finish(into output: inout [[UInt8]]) throws
}

extension DecodingStep {
  mutating func finish(into output: inout [[UInt8]]) {}
}

/// The steps of a decoder, at their beginning.
struct DecoderChain: Sendable {
  var steps: [any DecodingStep] = []
}

/// The decoders that a tokenizer.json can name. Behind `Fuse`, steps see all pieces as one.
enum Decoders {
  private static let table: [String: @Sendable (Settings, Bool) throws -> [any DecodingStep]] = [
    "ByteLevel": { _, _ in [ByteLevelDecoding()] }, "ByteFallback": { _, _ in [ByteFallbackDecoding()] },
    "Fuse": { _, _ in [] },
    "Metaspace": { settings, _ in
      let mark = try settings.character("replacement") ?? "▁"
      let scheme = try MetaspacePreTokenizer.scheme(settings)
      return [MetaspaceDecoding(mark: Array(String(Character(mark)).utf8), dropsFirst: scheme != .never)]
    },
    "WordPiece": { settings, _ in
      let prefix = try settings.text("prefix") ?? "##"
      return [WordPieceDecoding(prefix: Array(prefix.utf8), cleans: try settings.flag("cleanup") ?? true)]
    },
    "BPEDecoder": { settings, _ in
      [SuffixDecoding(suffix: try Pattern(literal: try settings.text("suffix") ?? "</w>"))]
    },
    "CTC": { settings, _ in [try CTCDecoding(settings)] },
    "Strip": { settings, isFused in [try StripDecoding(settings, isFused: isFused)] },
    "Replace": { settings, isFused in
      let replace = Replace(pattern: try settings.pattern(), content: Array(try settings.neededText("content").utf8))
      return [isFused ? FusedReplaceDecoding(replace: replace) : ReplaceDecoding(replace: replace)]
    },
  ]

  /// The steps that settings describe. Without a decoder, tokens are joined with spaces.
  static func make(_ value: JSONValue?, place: String) throws -> DecoderChain {
    guard let value, value != .null else { return DecoderChain(steps: [SpacedDecoding()]) }
    var isFused = false
    return DecoderChain(steps: try make(Settings(value: value, place: place + ": decoder"), &isFused))
  }

  private static func make(_ settings: Settings, _ isFused: inout Bool) throws -> [any DecodingStep] {
    let type = try settings.type()
    if type == "Sequence" {
      var steps: [any DecodingStep] = []
      for part in try settings.parts("decoders") { steps += try make(part, &isFused) }
      return steps
    }
    guard let make = table[type] else {
      throw settings.error("the type '\(type)' is not known (\(StrictJSON.unknown(type, among: Array(table.keys))))")
    }
    defer { if type == "Fuse" || type == "ByteLevel" { isFused = true } }
    return try make(settings, isFused)
  }
}

/// Tokens with spaces between.
struct SpacedDecoding: DecodingStep {
  private var isFirst = true

  mutating func push(_ piece: [UInt8], into output: inout [[UInt8]]) {
    output.append(isFirst ? piece : [UInt8(ascii: " ")] + piece)
    isFirst = false
  }
}
