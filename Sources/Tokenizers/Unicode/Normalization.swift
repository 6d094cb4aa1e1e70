/// The normalization forms of Unicode (Standard Annex 15).
struct NormalizationForm: Sendable {
  let isCompatible: Bool
  let composes: Bool

  static let nfd = NormalizationForm(isCompatible: false, composes: false)
  static let nfc = NormalizationForm(isCompatible: false, composes: true)
  static let nfkd = NormalizationForm(isCompatible: true, composes: false)
  static let nfkc = NormalizationForm(isCompatible: true, composes: true)

  /// The text in this form. Invalid bytes stay as they are.
  func apply(to text: [UInt8]) -> [UInt8] {
    if text.isASCII { return text }
    let tables = DecompositionTables.shared
    var scalars = decompose(text, tables)
    tables.sortMarks(&scalars)
    if composes { tables.compose(&scalars) }
    var output: [UInt8] = []
    output.reserveCapacity(text.count)
    for scalar in scalars { UTF8Scalar.append(scalar, to: &output) }
    return output
  }

  private func decompose(_ text: [UInt8], _ tables: DecompositionTables) -> [UInt32] {
    var scalars: [UInt32] = []
    scalars.reserveCapacity(text.count)
    text.withUnsafeBufferPointer { buffer in
      guard let bytes = buffer.baseAddress else { return }
      var offset = 0
      while offset < buffer.count {
        let (scalar, length) = UTF8Scalar.decode(bytes, offset, buffer.count)
        if scalar < 0xA0 {
          scalars.append(scalar)
        } else {
          tables.decompose(scalar, compatible: isCompatible, into: &scalars)
        }
        offset += length
      }
    }
    return scalars
  }
}

/// Decompositions, compositions and combining classes, but for the few newest that `LibraryData` names.
struct DecompositionTables: Sendable {
  static let shared = DecompositionTables()

  private let canonical: [UInt32: [UInt32]]
  private let compatible: [UInt32: [UInt32]]
  private let composed: [UInt64: UInt32]
  private let classes: [UInt32: UInt8]
  /// What has a class or a decomposition, and so needs a look.
  private let isSpecial: ScalarBitmap
  private let hasClass: ScalarBitmap

  private init() {
    let unknown = ScalarBitmap(.coded(LibraryData.decompositions))
    let entries = Self.read(CanonicalData.decompositions).filter { !unknown.contains($0.scalar) }
    let others = Self.read(CompatibilityData.decompositions).filter { !unknown.contains($0.scalar) }
    canonical = Dictionary(entries.map { ($0.scalar, $0.parts) }) { first, _ in first }
    compatible = Dictionary(others.map { ($0.scalar, $0.parts) }) { first, _ in first }
    let pairs = entries.filter { $0.parts.count == 2 && !$0.isExcluded }
    composed = Dictionary(pairs.map { (Self.key($0.parts[0], $0.parts[1]), $0.scalar) }) { first, _ in first }
    classes = Self.readClasses()
    let marks = ScalarSet(unsorted: classes.keys.map { $0..<$0 + 1 })
    let decomposed = ScalarSet(unsorted: (entries + others).map { $0.scalar..<$0.scalar + 1 })
    hasClass = ScalarBitmap(marks)
    isSpecial = ScalarBitmap(decomposed.union(ScalarSet(Hangul.first...Hangul.last)))
  }

  private static func key(_ first: UInt32, _ second: UInt32) -> UInt64 { UInt64(first) << 32 | UInt64(second) }

  private static func read(
    _ text: StaticString
  ) -> [(scalar: UInt32, parts: [UInt32], isExcluded: Bool)] {
    var entries: [(UInt32, [UInt32], Bool)] = []
    var reader = CodedTable(text)
    var scalar: UInt32 = 0
    while let gap = reader.number() {
      scalar += gap
      let count = reader.take(UInt8(ascii: "+")) ? reader.number() ?? 1 : 1
      let isExcluded = reader.take(UInt8(ascii: "!"))
      if !isExcluded { _ = reader.take(UInt8(ascii: ":")) }
      var parts: [UInt32] = []
      repeat { parts.append(reader.number() ?? 0) } while reader.take(UInt8(ascii: "."))
      for index in 0..<count {
        entries.append((scalar + index, index == 0 ? parts : [parts[0] + index], isExcluded))
      }
      _ = reader.take(UInt8(ascii: " "))
    }
    return entries
  }

  private static func readClasses() -> [UInt32: UInt8] {
    var classes: [UInt32: UInt8] = [:]
    let unknown = ScalarBitmap(.coded(LibraryData.classes))
    var reader = CodedTable(CanonicalData.combiningClasses)
    var start: UInt32 = 0
    while let gap = reader.number(), reader.take(UInt8(ascii: ",")), let count = reader.number(),
      reader.take(UInt8(ascii: ",")), let value = reader.number()
    {
      start += gap
      for scalar in start..<start + count where !unknown.contains(scalar) {
        classes[scalar] = UInt8(truncatingIfNeeded: value)
      }
      _ = reader.take(UInt8(ascii: " "))
    }
    return classes
  }

  private func combiningClass(_ scalar: UInt32) -> UInt8 {
    hasClass.contains(scalar) ? classes[scalar] ?? 0 : 0
  }

  /// Appends the full decomposition of a scalar.
  func decompose(_ scalar: UInt32, compatible isCompatible: Bool, into output: inout [UInt32]) {
    guard isSpecial.contains(scalar) else { return output.append(scalar) }
    if Hangul.decompose(scalar, into: &output) { return }
    guard let parts = canonical[scalar] ?? (isCompatible ? compatible[scalar] : nil) else {
      return output.append(scalar)
    }
    for part in parts { decompose(part, compatible: isCompatible, into: &output) }
  }

  /// Puts marks that follow each other into the order of their classes; equal classes keep their order.
  func sortMarks(_ scalars: inout [UInt32]) {
    var index = 0
    while index < scalars.count {
      guard combiningClass(scalars[index]) != 0 else {
        index += 1
        continue
      }
      var end = index + 1
      while end < scalars.count, combiningClass(scalars[end]) != 0 { end += 1 }
      if end - index > 1 {
        let marks = scalars[index..<end].enumerated().map { (class: combiningClass($1), place: $0, scalar: $1) }
        scalars.replaceSubrange(
          index..<end, with: marks.sorted { ($0.class, $0.place) < ($1.class, $1.place) }.map(\.scalar))
      }
      index = end
    }
  }

  /// Composes what the canonical composition algorithm composes.
  func compose(_ scalars: inout [UInt32]) {
    var kept = 0
    var starter = -1
    var lastClass: UInt8 = 0
    for scalar in scalars {
      let own = combiningClass(scalar)
      // Blocked: something between the starter and this has the same class or a higher one, or is itself a starter.
      let isBlocked = starter >= 0 && starter + 1 < kept && (lastClass == 0 || lastClass >= own)
      if starter >= 0, !isBlocked, let whole = pair(scalars[starter], scalar) {
        scalars[starter] = whole
        continue
      }
      if own == 0 { starter = kept }
      lastClass = own
      scalars[kept] = scalar
      kept += 1
    }
    scalars.removeSubrange(kept...)
  }

  private func pair(_ first: UInt32, _ second: UInt32) -> UInt32? {
    Hangul.compose(first, second) ?? (second < 0x300 ? nil : composed[Self.key(first, second)])
  }
}

/// Hangul syllables, which are computed from their letters (Unicode Standard, section 3.12).
private enum Hangul {
  static let first: UInt32 = 0xAC00
  static let last: UInt32 = 0xD7A3
  private static let (leading, vowel, trailing): (UInt32, UInt32, UInt32) = (0x1100, 0x1161, 0x11A7)

  static func decompose(_ scalar: UInt32, into output: inout [UInt32]) -> Bool {
    guard scalar >= first, scalar <= last else { return false }
    let index = scalar - first
    output.append(leading + index / 588)
    output.append(vowel + index % 588 / 28)
    if index % 28 != 0 { output.append(trailing + index % 28) }
    return true
  }

  static func compose(_ one: UInt32, _ two: UInt32) -> UInt32? {
    if one >= leading, one < leading + 19, two >= vowel, two < vowel + 21 {
      return first + (one - leading) * 588 + (two - vowel) * 28
    }
    guard one >= first, one <= last, (one - first) % 28 == 0, two > trailing, two < trailing + 28 else { return nil }
    return one + two - trailing
  }
}
