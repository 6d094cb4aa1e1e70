/// WordPiece (Schuster & Nakajima 2012): the longest token that a word begins with, and so on; a word that cannot be cut
/// whole is unknown.
struct WordPieceModel: TokenModel {
  let vocabulary: Vocabulary
  private let unknown: Int?
  private let longestWord: Int
  private let beginnings: PieceTrie
  /// Tokens that continue a word, without their prefix.
  private let continuations: PieceTrie

  init(_ vocabulary: Vocabulary, unknown: Int?, continuingPrefix: [UInt8], longestWord: Int) {
    self.vocabulary = vocabulary
    self.unknown = unknown
    self.longestWord = longestWord
    var (beginnings, continuations) = (PieceTrie(), PieceTrie())
    vocabulary.forEach { token, id in
      beginnings.insert(token, number: id)
      if token.starts(with: continuingPrefix) {
        continuations.insert(UnsafeRawBufferPointer(rebasing: token[continuingPrefix.count...]), number: id)
      }
    }
    (self.beginnings, self.continuations) = (beginnings, continuations)
  }

  func encode(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: inout ModelScratch, into ids: inout [Int]) throws {
    let before = ids.count
    var place = 0
    let characters = piece.reduce(0) { $0 + ($1 & 0xC0 == 0x80 ? 0 : 1) }
    while characters <= longestWord, place < piece.count {
      let trie = place == 0 ? beginnings : continuations
      guard let match = trie.longestMatch(piece, place, piece.count) else { break }
      ids.append(match.number)
      place = match.end
    }
    if place == piece.count { return }
    ids.removeSubrange(before...)
    guard let unknown else {
      throw TokenizerError("WordPiece", "the text has an unknown word, and there is no token for the unknown")
    }
    ids.append(unknown)
  }
}

/// Whole words and nothing else.
struct WordLevelModel: TokenModel {
  let vocabulary: Vocabulary
  let unknown: Int?

  func encode(_ piece: UnsafeBufferPointer<UInt8>, _ scratch: inout ModelScratch, into ids: inout [Int]) throws {
    guard let id = vocabulary.id(UnsafeRawBufferPointer(piece)) ?? unknown else {
      throw TokenizerError("word level", "the text has an unknown word, and there is no token for the unknown")
    }
    ids.append(id)
  }
}
