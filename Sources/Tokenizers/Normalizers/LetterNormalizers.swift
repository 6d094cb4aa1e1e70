/// Lower case, scalar by scalar: sigma at the end of a word is no special case.
struct Lowercase: Normalizer {
  func normalize(_ text: [UInt8]) -> [UInt8] {
    text.mapScalars { scalar, output in Self.append(scalar, to: &output) }
  }

  static func append(_ scalar: UInt32, to output: inout [UInt8]) {
    if scalar < 0x80 {
      output.append(UInt8((0x41...0x5A).contains(scalar) ? scalar + 32 : scalar))
    } else if let unicode = Unicode.Scalar(scalar), unicode.properties.changesWhenLowercased {
      output += Array(unicode.properties.lowercaseMapping.utf8)
    } else {
      UTF8Scalar.append(scalar, to: &output)
    }
  }
}

/// Leaves marks out.
struct StripAccents: Normalizer {
  private static let marks = ScalarBitmap(UnicodeClasses.mark.symmetricDifference(.coded(LibraryData.marks)))

  func normalize(_ text: [UInt8]) -> [UInt8] {
    if text.isASCII { return text }
    return text.mapScalars { scalar, output in
      if !Self.marks.contains(scalar) { UTF8Scalar.append(scalar, to: &output) }
    }
  }
}

/// What BERT does to text (Devlin et al. 2019): clean it, set Chinese characters apart, strip accents, lower the case.
struct BertNormalizer: Normalizer {
  var cleans = true
  var separatesChinese = true
  var stripsAccents = true
  var lowercases = true

  init() {}

  init(_ settings: Settings) throws {
    cleans = try settings.flag("clean_text") ?? true
    separatesChinese = try settings.flag("handle_chinese_chars") ?? true
    lowercases = try settings.flag("lowercase") ?? true
    stripsAccents = try settings.flag("strip_accents") ?? lowercases
  }

  private static let control = ScalarBitmap(
    UnicodeClasses.set([.Cc, .Cf, .Co, .Cs]).symmetricDifference(.coded(LibraryData.controls)))
  private static let whitespace = ScalarBitmap(UnicodeClasses.whitespace)
  private static let accents = ScalarBitmap(UnicodeClasses.set([.Mn]).symmetricDifference(.coded(LibraryData.accents)))
  /// The blocks that BERT calls Chinese. One begins at U+2B920 where Unicode's begins at U+2B820, as in the original.
  private static let chinese = ScalarBitmap(
    ScalarSet(unsorted: [
      0x4E00..<0xA000, 0x3400..<0x4DC0, 0x20000..<0x2A6E0, 0x2A700..<0x2B740, 0x2B740..<0x2B820, 0x2B920..<0x2CEB0,
      0xF900..<0xFB00, 0x2F800..<0x2FA20,
    ]))

  func normalize(_ text: [UInt8]) -> [UInt8] {
    var text = text
    if cleans || separatesChinese {
      text = text.mapScalars { scalar, output in clean(scalar, &output) }
    }
    if stripsAccents, !text.isASCII {
      text = NormalizationForm.nfd.apply(to: text).mapScalars { scalar, output in
        if !Self.accents.contains(scalar) { UTF8Scalar.append(scalar, to: &output) }
      }
    }
    return lowercases ? Lowercase().normalize(text) : text
  }

  private func clean(_ scalar: UInt32, _ output: inout [UInt8]) {
    let space = UInt8(ascii: " ")
    if cleans {
      if scalar == 9 || scalar == 10 || scalar == 13 { return output.append(space) }
      if scalar == 0xFFFD || Self.control.contains(scalar) { return }
      if Self.whitespace.contains(scalar) { return output.append(space) }
    }
    let isChinese = separatesChinese && Self.chinese.contains(scalar)
    if isChinese { output.append(space) }
    UTF8Scalar.append(scalar, to: &output)
    if isChinese { output.append(space) }
  }
}

/// Control characters away, spaces of all kinds to one, as machine translation with SentencePiece had it.
struct NmtNormalizer: Normalizer {
  private static let dropped = ScalarBitmap(
    ScalarSet(unsorted: [1..<9, 0xB..<0xC, 0xE..<0x20, 0x7F..<0x80, 0x8F..<0x90, 0x9F..<0xA0]))
  private static let spaces = ScalarBitmap(
    ScalarSet(unsorted: [
      9..<11, 12..<14, 0x1680..<0x1681, 0x200B..<0x2010, 0x2028..<0x202A, 0x2581..<0x2582, 0xFEFF..<0xFF00,
      0xFFFD..<0xFFFE,
    ]))

  func normalize(_ text: [UInt8]) -> [UInt8] {
    text.mapScalars { scalar, output in
      if Self.dropped.contains(scalar) { return }
      UTF8Scalar.append(Self.spaces.contains(scalar) ? 0x20 : scalar, to: &output)
    }
  }
}
