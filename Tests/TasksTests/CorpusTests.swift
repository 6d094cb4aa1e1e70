import Foundation
import Testing

@testable import FermataTasks

/// A folder of its own for a test, deleted with the object.
final class TemporaryFolder {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "/fermata-test-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  @discardableResult
  func write(_ text: String, _ name: String) throws -> String {
    let file = path + "/" + name
    let folder = (file as NSString).deletingLastPathComponent
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try Data(text.utf8).write(to: URL(fileURLWithPath: file))
    return file
  }
}

extension Document {
  var text: String { String(decoding: bytes, as: UTF8.self) }
}

@Suite struct CorpusTests {
  @Test func aFile() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("hello", "a")
    let corpus = try Corpus.load(path)
    #expect(corpus.documents == [Document(name: path, bytes: Data("hello".utf8))])
    #expect(corpus.size == 5)
    let error = #expect(throws: DataError.self) { try corpus.require(bytes: 6) }
    #expect(error == .tooShort(path: path, size: 5, needed: 6))
  }

  @Test func aFolderInOrder() throws {
    let folder = try TemporaryFolder()
    for name in ["b", "a/z", "a.txt", "B", ".hidden", ".git/config", "é"] { try folder.write(name, name) }
    try folder.write("", "nothing")
    symlink("b", folder.path + "/0link")
    symlink("gone", folder.path + "/dangling")
    symlink(".", folder.path + "/loop")
    mkfifo(folder.path + "/pipe", 0o666)
    let corpus = try Corpus.load(folder.path)
    #expect(corpus.documents.map(\.text) == ["B", "a.txt", "a/z", "b", "é"])
    let skipped = corpus.skipped.map { ($0.path as NSString).lastPathComponent }
    #expect(Set(skipped) == ["nothing", "dangling", "pipe"])
  }

  @Test func linksOutOfTheFolderAreRead() throws {
    let folder = try TemporaryFolder()
    try folder.write("text", "outside")
    try folder.write("x", "inside/x")
    symlink("../outside", folder.path + "/inside/link")
    #expect(try Corpus.load(folder.path + "/inside").documents.map(\.text) == ["text", "x"])
  }

  @Test func errors() throws {
    let folder = try TemporaryFolder()
    #expect(throws: DataError.missing(path: "/nonexistent/a")) { try Corpus.load("/nonexistent/a") }
    let empty = try folder.write("", "empty")
    #expect(throws: DataError.empty(path: empty)) { try Corpus.load(empty) }
    mkdir(folder.path + "/d", 0o777)
    #expect(throws: DataError.empty(path: folder.path + "/d")) { try Corpus.load(folder.path + "/d") }
    symlink("gone", folder.path + "/d/dangling")
    let error = #expect(throws: DataError.self) { try Corpus.load(folder.path + "/d") }
    #expect(error?.description.contains("dangling") == true)
    let text = try folder.write("----", "separators")
    #expect(throws: DataError.empty(path: text)) { try Corpus.load(text, separator: "--") }
    #expect(throws: DataError.self) { try Corpus.load(text, separator: "") }
  }

  @Test func filesThatAreNoRegularOnes() throws {
    // A virtual file says that it has no bytes.
    #expect(try Corpus.load("/proc/self/status").size > 0)
    #expect(throws: DataError.empty(path: "/dev/null")) { try Corpus.load("/dev/null") }
  }

  @Test(arguments: [
    ("a--b----c-", ["a", "b", "c-"]), ("--a", ["a"]), ("a--", ["a"]), ("-", ["-"]), ("a---b", ["a", "-b"]),
  ])
  func separators(_ text: String, _ expected: [String]) throws {
    let folder = try TemporaryFolder()
    let path = try folder.write(text, "a")
    let documents = try Corpus.load(path, separator: "--").documents
    #expect(documents.map(\.text) == expected)
    #expect(documents[0].name == path + "#1")
  }

  @Test func aPipe() throws {
    let pipe = Pipe()
    let size = 3_000_000
    let writer = Thread {
      pipe.fileHandleForWriting.write(Data(repeating: 65, count: size))
      try? pipe.fileHandleForWriting.close()
    }
    writer.start()
    let corpus = try Corpus.readStandardInput(descriptor: pipe.fileHandleForReading.fileDescriptor)
    #expect(corpus.size == size)
    #expect(corpus.documents.count == 1)
    #expect(throws: DataError.unreadable(path: "standard input", reason: String(cString: strerror(EBADF)))) {
      try Corpus.readStandardInput(descriptor: -1)
    }
  }

  @Test func aPipeBeyondTheLimit() throws {
    let pipe = Pipe()
    pipe.fileHandleForWriting.write(Data(repeating: 65, count: 100))
    try pipe.fileHandleForWriting.close()
    #expect(throws: DataError.tooLarge(path: "standard input", limit: 99)) {
      try Corpus.readStandardInput(limit: 99, descriptor: pipe.fileHandleForReading.fileDescriptor)
    }
  }
}

@Suite struct NearDuplicatesTests {
  private func text(_ seed: UInt64, words: Int) -> String {
    var generator = SplitMix64(seed: seed)
    return (0..<words).map { _ in "w\(generator.below(1000))" }.joined(separator: " ")
  }

  private func corpus(_ texts: [String]) -> Corpus {
    let documents = texts.enumerated().map { Document(name: "\($0)", bytes: Data($1.utf8)) }
    return Corpus(documents: documents, source: "test")
  }

  @Test func keepsTheLargerAndTheFirst() {
    let first = text(1, words: 500)
    let second = text(2, words: 300)
    let third = text(3, words: 400)
    let corpus = corpus([
      second, first + " " + text(4, words: 50), third, first, second, third.uppercased() + "!",
      second + " " + text(5, words: 1000),
    ])
    let (kept, removed) = NearDuplicates().remove(from: corpus)
    // Documents 0 and 4 lie in the larger 6, 3 in 1, and 5 is larger than 2 by a mark.
    #expect(kept.documents.map(\.name) == ["1", "5", "6"])
    #expect(removed.map(\.name) == ["0", "2", "3", "4"])
    #expect(removed.map(\.kept) == ["6", "5", "1", "6"])
    #expect(removed.allSatisfy { $0.containment > 0.99 })
  }

  @Test func thresholdIsContainment() {
    let corpus = corpus([text(1, words: 1000), text(1, words: 400) + " " + text(2, words: 600)])
    #expect(NearDuplicates(threshold: 0.5).remove(from: corpus).removed.isEmpty)
    #expect(NearDuplicates(threshold: 0.3).remove(from: corpus).removed.count == 1)
  }

  @Test func bytesAndTinyTexts() {
    let binary =
      String(repeating: "x", count: 10) + String((0..<3000).map { Character(Unicode.Scalar(UInt8(33 + $0 * $0 % 11))) })
    let tiny = corpus([binary, binary + "yyy", "a", "a", "b"])
    #expect(NearDuplicates().remove(from: tiny).corpus.documents.map(\.name) == ["1", "2", "4"])
    #expect(NearDuplicates().remove(from: corpus(["a b", "a  B", "c"])).corpus.documents.map(\.name) == ["1", "2"])
  }

  @Test func samplingFindsTheSame() {
    let base = text(1, words: 20_000)
    let corpus = corpus([base, text(2, words: 20_000), base + " " + text(3, words: 2000)])
    var sampled = NearDuplicates()
    sampled.budget = 2000
    #expect(sampled.remove(from: corpus).corpus.documents.map(\.name) == ["1", "2"])
  }

  @Test func debianLicences() throws {
    let path = "/usr/share/common-licenses"
    guard FileManager.default.fileExists(atPath: path + "/GPL-3") else { return }
    let (kept, removed) = NearDuplicates().remove(from: try Corpus.load(path))
    let names = kept.documents.map { ($0.name as NSString).lastPathComponent }
    #expect(names.contains("GPL-3"))
    #expect(!names.contains("GPL"), "a symbolic link to GPL-3")
    #expect(removed.contains { $0.name.hasSuffix("/GFDL-1.2") })
    #expect(removed.contains { $0.name.hasSuffix("/LGPL-2") })
  }
}

@Suite struct HeldOutSplitTests {
  private func corpus(_ sizes: [Int]) -> Corpus {
    let documents = sizes.enumerated().map { Document(name: "\($0)", bytes: Data(repeating: 97, count: $1)) }
    return Corpus(documents: documents, source: "test")
  }

  @Test(arguments: 0..<20)
  func wholeDocumentsNearTheFraction(_ seed: UInt64) throws {
    var generator = SplitMix64(seed: seed)
    let corpus = corpus((0..<60).map { _ in 50 + generator.below(200) })
    let split = try HeldOutSplit(corpus, fraction: 0.1, seed: seed)
    let part = Double(split.validation.reduce(0) { $0 + $1.bytes.count }) / Double(corpus.size)
    #expect(part > 0.07 && part < 0.13)
    #expect(split.training.count + split.validation.count == 60)
    #expect(Set(split.training.map(\.name)).isDisjoint(with: split.validation.map(\.name)))
    #expect(try HeldOutSplit(corpus, fraction: 0.1, seed: seed).validation == split.validation)
  }

  @Test func seedsDiffer() throws {
    let corpus = corpus(Array(repeating: 100, count: 50))
    let choices = try (0..<5).map { try HeldOutSplit(corpus, fraction: 0.1, seed: $0).validation.map(\.name) }
    #expect(Set(choices).count > 1)
  }

  @Test(arguments: [[10, 10], [1, 1_000_000], [5, 5, 5], [1_000_000, 1_000_000, 3], [0, 7, 7]])
  func neverNoneNeverAll(_ sizes: [Int]) throws {
    let split = try HeldOutSplit(corpus(sizes), fraction: 0.05, seed: 3)
    #expect(!split.training.isEmpty && !split.validation.isEmpty)
  }

  @Test func theTailOfOneDocument() throws {
    let text = String(repeating: "é", count: 500)
    let corpus = Corpus(documents: [Document(name: "a", bytes: Data(text.utf8))], source: "a")
    let split = try HeldOutSplit(corpus, fraction: 0.0995)
    #expect(split.training[0].bytes + split.validation[0].bytes == Data(text.utf8))
    #expect(String(validating: split.validation[0].bytes, as: UTF8.self) != nil)
    #expect((96...100).contains(split.validation[0].bytes.count))
    let error = #expect(throws: DataError.self) { try split.require(sequenceLength: 1000) }
    #expect(error?.description.contains("1000") == true)
  }

  @Test func refusesWhatCannotBeDivided() throws {
    #expect(throws: DataError.tooShort(path: "0", size: 1, needed: 2)) { try HeldOutSplit(corpus([1])) }
    #expect(throws: DataError.empty(path: "test")) { try HeldOutSplit(corpus([0])) }
    for fraction in [0, -1, 0.6, .nan] {
      #expect(throws: DataError.self) { try HeldOutSplit(corpus([9, 9]), fraction: fraction) }
    }
  }
}
