import FermataTestSupport

/// A sound file in parts that belong together: words of a text, fields of a binary format.
struct Seed: Sendable {
  var parts: [[UInt8]]
  /// Parts before this one are changed as often as all others together: where the settings are.
  var head: Int
  /// The file's bytes; what counts or measures the parts is written anew here.
  var assembled: @Sendable ([[UInt8]]) -> [UInt8]

  init(
    _ parts: [[UInt8]], head: Int? = nil, assembled: @escaping @Sendable ([[UInt8]]) -> [UInt8] = { Array($0.joined()) }
  ) {
    self.parts = parts
    self.head = head ?? parts.count
    self.assembled = assembled
  }
}

extension Seed {
  /// A text cut into words, numbers, quoted texts and signs.
  init(text: String, head: Int? = nil) {
    let bytes = Array(text.utf8)
    let parts = Seed.words(bytes)
    var length = 0
    let end = parts.firstIndex { part in
      length += part.count
      return length > head ?? bytes.count
    }
    self.init(parts, head: end)
  }

  static func words(_ bytes: [UInt8]) -> [[UInt8]] {
    var parts: [[UInt8]] = []
    var start = 0
    while start < bytes.count {
      var end = start + 1
      if bytes[start] == UInt8(ascii: "\"") {
        while end < bytes.count, bytes[end] != UInt8(ascii: "\"") { end += bytes[end] == UInt8(ascii: "\\") ? 2 : 1 }
        end = min(end + 1, bytes.count)
      } else if isWord(bytes[start]) {
        while end < bytes.count, isWord(bytes[end]) { end += 1 }
      }
      parts.append(Array(bytes[start..<end]))
      start = end
    }
    return parts
  }

  private static func isWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "-"), 0x80...:
      true
    default: false
    }
  }
}

/// Makes damaged files of sound ones. What comes out depends on the random numbers alone.
struct Mutator: Sendable {
  let seeds: [Seed]
  /// What parts may become.
  let dictionary: [[UInt8]]

  /// What breaks readers of texts. Values, thrice as likely, leave the text well formed: numbers at the edges of their types,
  /// things of another kind. Fragments do not.
  static let words: [[UInt8]] = [[[UInt8]]](repeating: values, count: 3).flatMap { $0 } + fragments

  private static let values: [[UInt8]] = [
    "0", "-0", "1", "-1", "2", "3", "7", "64", "255", "256", "65536", "4294967295", "4294967296", "2147483647",
    "9223372036854775807", "-9223372036854775808", "9223372036854775808", "18446744073709551615", "4611686018427387904",
    "1e308", "0.5", "1.5", "1e-400", "true", "false", "null", "\"\"", "[]", "{}", "[[]]", "{\"\":0}", "[0,0]",
    "\"\\u0000\"", "\"é\"", "\"e\u{301}\"", "\"日本\"", "\"😀\"", "\" \"", "\"a{1000}\"", "\"(a*)*b\"",
    "\"((a{50}){50}){50}\"", "\"(?i)[^\\\\p{L}]\"", "\"[a-z&&[^b]]\"", "{\"__float__\":\"Infinity\"}",
  ].map { Array($0.utf8) }

  private static let fragments: [[UInt8]] = [
    "1e309", "-1e999", "NaN", "Infinity", "-Infinity", "\"\\ud800\"", "\"\\udc00\\ud800\"", "\"", "\\", "{", "}", "[",
    "]",
    ",", ":", "(", ")", "|", "*", "+", "?", ".", "^", "$", " ", "\n", "\"(\"", "{{", "}}", "{%", "%}", "{#", "#}",
    "%}{% endfor %}", "{% for x in range(9999) %}", "{{ x * 99999 }}",
  ].map { Array($0.utf8) }

  /// Numbers at the edges of their types, as bytes.
  static let numbers: [[UInt8]] = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 40, 1 << 62, .max].flatMap {
    (value: UInt64) in
    [1, 2, 4, 8].map { size in (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
  }

  /// A damaged file.
  func file(_ random: inout TestRandom) -> (bytes: [UInt8], seed: Int) {
    let number = random.int(0...seeds.count - 1)
    let seed = seeds[number]
    var parts = seed.parts
    // One change in most: what is refused at once never reaches what lies behind.
    for _ in 0..<max(1, random.int(-3...4)) where !parts.isEmpty { change(&parts, seed, &random) }
    var bytes = seed.assembled(parts)
    if random.chance(0.03) { bytes.removeLast(random.int(0...bytes.count)) }
    if random.chance(0.05), !bytes.isEmpty { Self.change(&bytes, &random) }
    return (bytes, number)
  }

  private func change(_ parts: inout [[UInt8]], _ seed: Seed, _ random: inout TestRandom) {
    func place(_ random: inout TestRandom) -> Int {
      let reach = random.chance(0.5) ? min(seed.head, parts.count) : parts.count
      let places = (0..<3).map { _ in random.int(0...max(0, reach - 1)) }
      // Signs stand between any two words, and breaking them shows little.
      return places.first { parts[$0].count > 1 } ?? places[0]
    }
    let at = place(&random)
    let run = at..<min(parts.count, at + random.int(1...4))
    switch random.int(0...10) {
    case 0, 1, 2: parts[at] = dictionary[random.int(0...dictionary.count - 1)]
    case 3:
      let other = seeds[random.int(0...seeds.count - 1)].parts
      if !other.isEmpty { parts[at] = other[random.int(0...other.count - 1)] }
    case 4: parts[at] = parts[place(&random)]
    case 5: parts.removeSubrange(run)
    case 6: parts.insert(contentsOf: Array(parts[run]), at: place(&random))
    case 7: parts.swapAt(at, place(&random))
    case 8 where random.chance(0.2):
      let count = [2, 20, 200, 2000][random.int(0...3)]
      parts.insert(contentsOf: repeatElement(Array(parts[run].joined()), count: count), at: at)
    default: Self.change(&parts[at], &random)
    }
  }

  /// Changes a few bytes.
  static func change(_ bytes: inout [UInt8], _ random: inout TestRandom) {
    guard !bytes.isEmpty else { return bytes = [UInt8(random.int(0...255))] }
    let at = random.int(0...bytes.count - 1)
    switch random.int(0...5) {
    case 0: bytes[at] = UInt8(random.int(0...255))
    case 1: bytes[at] ^= 1 << UInt8(random.int(0...7))
    case 2: bytes.remove(at: at)
    case 3: bytes.insert(UInt8(random.int(0...255)), at: at)
    case 4:
      let signs = Array("{}[]()|\\*+?^$-:,\".09ep".utf8)
      bytes[at] = signs[random.int(0...signs.count - 1)]
    default:
      let number = numbers[random.int(0...numbers.count - 1)]
      for (offset, byte) in number.enumerated() where at + offset < bytes.count { bytes[at + offset] = byte }
    }
  }
}
