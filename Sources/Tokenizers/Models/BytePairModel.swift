/// Byte-pair encoding (Sennrich et al. 2016): a piece begins as its characters, or its bytes, and neighbours merge in the
/// order of a list.
struct BytePairModel: TokenModel {
  struct Options: Sendable {
    /// What unknown characters become; nil leaves them out.
    var unknown: Int?
    /// Unknown characters that follow each other become one.
    var fusesUnknown = false
    /// Unknown characters become tokens of their bytes (`<0x0A>`).
    var fallsBackToBytes = false
    /// A piece that is a token is that token, whatever merges say.
    var ignoresMerges = false
    /// Stands before every symbol but a piece's first.
    var continuingPrefix: [UInt8] = []
    /// Stands behind a piece's last symbol.
    var endSuffix: [UInt8] = []
    /// Pieces are raw bytes; the vocabulary writes them in the alphabet of `ByteAlphabet`.
    var usesByteAlphabet = false
  }

  let vocabulary: Vocabulary
  private let merges: MergeTable
  private let options: Options
  /// The token of each byte: of its letter in the byte alphabet, or of ASCII itself.
  private let single: [Int32]
  private let byteTokens: [Int]?

  init(_ vocabulary: Vocabulary, _ merges: MergeTable, _ options: Options) {
    self.vocabulary = vocabulary
    self.merges = merges
    self.options = options
    single = (0..<256).map { byte in
      if options.usesByteAlphabet { return Int32(vocabulary.id(ByteAlphabet.letters[byte]) ?? -1) }
      return byte < 0x80 ? Int32(vocabulary.id([UInt8(byte)]) ?? -1) : -1
    }
    byteTokens = options.fallsBackToBytes ? ByteTokens.find(in: vocabulary) : nil
  }

  func encode(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: inout ModelScratch, into ids: inout [Int]) throws {
    if options.ignoresMerges, let id = whole(piece) { return ids.append(id) }
    scratch.symbols.symbols.removeAll(keepingCapacity: true)
    if options.usesByteAlphabet {
      appendBytes(piece, to: &scratch.symbols.symbols)
    } else {
      appendCharacters(piece, to: &scratch.symbols.symbols)
    }
    scratch.symbols.merge { left, right in
      merges.find(left, right).map { (order: $0.rank, merged: $0.merged) }
    }
    for symbol in scratch.symbols.symbols { ids.append(Int(symbol)) }
  }

  private func whole(_ piece: UnsafeBufferPointer<UInt8>) -> Int? {
    if !options.usesByteAlphabet { return vocabulary.id(UnsafeRawBufferPointer(piece)) }
    guard piece.count <= vocabulary.longest else { return nil }
    return vocabulary.id(piece.flatMap { ByteAlphabet.letters[Int($0)] })
  }

  private func appendBytes(_ piece: UnsafeBufferPointer<UInt8>, to symbols: inout [Int32]) {
    var wasUnknown = false
    for byte in piece {
      let id = single[Int(byte)]
      if id >= 0 { symbols.append(id) } else { appendUnknown(to: &symbols, wasUnknown) }
      wasUnknown = id < 0
    }
  }

  private func appendUnknown(to symbols: inout [Int32], _ wasUnknown: Bool) {
    guard let unknown = options.unknown, !(wasUnknown && options.fusesUnknown) else { return }
    symbols.append(Int32(unknown))
  }

  private func appendCharacters(_ piece: UnsafeBufferPointer<UInt8>, to symbols: inout [Int32]) {
    guard let bytes = piece.baseAddress else { return }
    // As in the library that tokenizer.json comes from, an unknown character waits until the next known one, and tokens
    // of bytes do not end the wait.
    var isWaiting = false
    func release() {
      if isWaiting, let unknown = options.unknown { symbols.append(Int32(unknown)) }
      isWaiting = false
    }
    var offset = 0
    while offset < piece.count {
      let (_, length) = UTF8Scalar.decode(bytes, offset, piece.count)
      let character = UnsafeRawBufferPointer(start: bytes + offset, count: length)
      let isLast = offset + length == piece.count
      if let id = symbol(character, isFirst: offset == 0, isLast: isLast) {
        release()
        symbols.append(id)
      } else if let byteTokens {
        for byte in spelled(character, isFirst: offset == 0, isLast: isLast) {
          symbols.append(Int32(byteTokens[Int(byte)]))
        }
      } else {
        if !options.fusesUnknown { release() }
        isWaiting = true
      }
      offset += length
    }
    release()
  }

  private func symbol(_ character: UnsafeRawBufferPointer, isFirst: Bool, isLast: Bool) -> Int32? {
    if options.continuingPrefix.isEmpty, options.endSuffix.isEmpty {
      if character.count == 1 { return single[Int(character[0])] < 0 ? nil : single[Int(character[0])] }
      return vocabulary.id(character).map { Int32($0) }
    }
    return vocabulary.id(spelled(character, isFirst: isFirst, isLast: isLast)).map { Int32($0) }
  }

  private func spelled(_ character: UnsafeRawBufferPointer, isFirst: Bool, isLast: Bool) -> [UInt8] {
    (isFirst ? [] : options.continuingPrefix) + Array(character) + (isLast ? options.endSuffix : [])
  }
}

/// The letters by which byte-level vocabularies write bytes: printable ones as themselves, the others as letters from
/// U+0100 on, in order (Radford et al. 2019).
enum ByteAlphabet {
  /// UTF-8 of the letter of each byte.
  static let letters: [[UInt8]] = {
    var others: UInt32 = 0
    return (0..<256).map { byte in
      let isPrintable = (0x21...0x7E).contains(byte) || (0xA1...0xFF).contains(byte) && byte != 0xAD
      var letter: [UInt8] = []
      UTF8Scalar.append(isPrintable ? UInt32(byte) : 0x100 + others, to: &letter)
      if !isPrintable { others += 1 }
      return letter
    }
  }()

  /// The byte that each scalar below U+0144 stands for; -1 for none.
  private static let byteOfScalar: [Int16] = {
    var bytes = [Int16](repeating: -1, count: 0x144)
    for (byte, letter) in letters.enumerated() { bytes[Int(UTF8Scalar.all(letter)[0])] = Int16(byte) }
    return bytes
  }()

  /// The bytes that a token's letters stand for; nil when one of them is none of the alphabet.
  static func bytes(of token: [UInt8]) -> [UInt8]? {
    let table = byteOfScalar
    var isKnown = true
    let bytes = [UInt8](unsafeUninitializedCapacity: token.count) { output, count in
      token.withUnsafeBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return }
        var offset = 0
        while offset < buffer.count {
          let (scalar, length) = UTF8Scalar.decode(base, offset, buffer.count)
          guard scalar < 0x144, table[Int(scalar)] >= 0 else {
            isKnown = false
            return
          }
          output[count] = UInt8(truncatingIfNeeded: table[Int(scalar)])
          count += 1
          offset += length
        }
      }
    }
    return isKnown ? bytes : nil
  }
}

/// Tokens of single bytes, written `<0x0A>`.
enum ByteTokens {
  static func name(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16, uppercase: true)
    return "<0x\(digits.count == 1 ? "0" : "")\(digits)>"
  }

  /// The ids of all 256; nil when one is missing.
  static func find(in vocabulary: Vocabulary) -> [Int]? {
    let ids = (0..<256).compactMap { vocabulary.id(name(UInt8($0))) }
    return ids.count == 256 ? ids : nil
  }

  /// The byte that a token stands for; nil for other tokens.
  static func byte(_ token: [UInt8]) -> UInt8? {
    guard token.count == 6, token.starts(with: "<0x".utf8), token[5] == UInt8(ascii: ">") else { return nil }
    return UInt8(String(decoding: token[3..<5], as: UTF8.self), radix: 16)
  }
}
