import FermataFiles

/// A SentencePiece model as its file has it (sentencepiece_model.proto), as far as encoding and decoding need it.
struct SentencePieceFile {
  /// What a piece is for, with the numbers of the file.
  enum Kind: Int { case normal = 1, unknown, control, userDefined, unused, byte }

  struct Piece {
    var text: [UInt8] = []
    var score: Float = 0
    var kind = Kind.normal
  }

  var pieces: [Piece] = []
  /// 1 unigram, 2 byte pairs, 3 words, 4 characters.
  var modelType = 1
  var fallsBackToBytes = false
  var treatsSpaceAsSuffix = false
  var unknownText = " \u{2047} "
  var characterMap: [UInt8] = []
  var addsDummyPrefix = true
  var removesExtraSpaces = true
  var escapesSpaces = true

  init(_ path: String) throws {
    let mapping = try FileMapping(path)
    try withExtendedLifetime(mapping) {
      var reader = ProtobufReader(mapping.bytes, place: path)
      while let (field, value) = try reader.next() {
        guard let bytes = value.bytes else { continue }
        switch field {
        case 1: pieces.append(try Self.piece(bytes, path))
        case 2: try readTrainer(bytes, path)
        case 3: try readNormalizer(bytes, path)
        default: break
        }
      }
    }
    guard !pieces.isEmpty else {
      throw TokenizerError(path, "it holds no pieces", advice: "it is damaged, or no SentencePiece model")
    }
  }

  /// Whether a file may be one: its first field is a piece.
  static func matches(_ path: String) -> Bool {
    guard let mapping = try? FileMapping(path), mapping.bytes.first == 0x0A else { return false }
    var reader = ProtobufReader(mapping.bytes, place: path)
    guard let first = try? reader.next()?.value.bytes else { return false }
    return (try? piece(first, path))?.text.isEmpty == false
  }

  private static func piece(_ bytes: UnsafeRawBufferPointer, _ path: String) throws -> Piece {
    var piece = Piece()
    var reader = ProtobufReader(bytes, place: path)
    while let (field, value) = try reader.next() {
      switch field {
      case 1: piece.text = value.bytes.map { Array($0) } ?? []
      case 2: piece.score = value.float ?? 0
      case 3: piece.kind = value.integer.flatMap { Kind(rawValue: $0) } ?? .normal
      default: break
      }
    }
    guard piece.score.isFinite else { throw TokenizerError(path, "the score of a piece is no number") }
    return piece
  }

  private mutating func readTrainer(_ bytes: UnsafeRawBufferPointer, _ path: String) throws {
    var reader = ProtobufReader(bytes, place: path)
    while let (field, value) = try reader.next() {
      switch field {
      case 3: modelType = value.integer ?? 1
      case 24: treatsSpaceAsSuffix = value.flag ?? false
      case 35: fallsBackToBytes = value.flag ?? false
      case 44: unknownText = value.text ?? unknownText
      default: break
      }
    }
  }

  private mutating func readNormalizer(_ bytes: UnsafeRawBufferPointer, _ path: String) throws {
    var reader = ProtobufReader(bytes, place: path)
    while let (field, value) = try reader.next() {
      switch field {
      case 2: characterMap = value.bytes.map { Array($0) } ?? []
      case 3: addsDummyPrefix = value.flag ?? true
      case 4: removesExtraSpaces = value.flag ?? true
      case 5: escapesSpaces = value.flag ?? true
      default: break
      }
    }
  }
}
