import Foundation
import Testing

@testable import FermataFiles

@Suite struct AtomicFileTests {
  struct Interruption: Error {}

  @Test func replacesAndKeepsPermissions() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("a")
    try AtomicFile.write(Data("old".utf8), to: path)
    chmod(path, 0o640)
    try AtomicFile.write(Data("new".utf8), to: path)
    #expect(try folder.text("a") == "new")
    #expect(try #require(PathQuery.status(path)).st_mode & 0o777 == 0o640)
    #expect(try folder.names() == ["a"])
  }

  @Test func aFailedWriteLeavesTheOldFileAndNoOther() throws {
    let folder = try TemporaryFolder()
    try AtomicFile.write(Data("old".utf8), to: folder.file("a"))
    #expect(throws: Interruption.self) {
      try AtomicFile.write(to: folder.file("a")) { sink in
        try sink.write(Data("half".utf8))
        throw Interruption()
      }
    }
    #expect(try folder.text("a") == "old")
    #expect(try folder.names() == ["a"])
  }

  @Test func followsLinks() throws {
    let folder = try TemporaryFolder()
    try AtomicFile.write(Data("old".utf8), to: folder.file("a"))
    symlink("a", folder.file("link"))
    try AtomicFile.write(Data("new".utf8), to: folder.file("link"))
    #expect(try folder.text("a") == "new")
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: folder.file("link")) == "a")
  }

  @Test func refusesWhatIsNoFile() throws {
    let folder = try TemporaryFolder()
    for path in [folder.path, "/dev/null"] {
      let error = #expect(throws: FileError.self) { try AtomicFile.write(Data([1]), to: path) }
      #expect(error?.kind == .wrongKind)
    }
    let error = #expect(throws: FileError.self) { try AtomicFile.write(Data([1]), to: folder.file("no/file")) }
    #expect(error?.kind == .missing)
    #expect(error?.path == folder.file("no/file"))
  }

  @Test func aFullDiskIsNamed() throws {
    let full = try Descriptor("/dev/full", O_WRONLY, operation: "open")
    var error: FileError?
    do {
      try [UInt8](repeating: 1, count: 100).withUnsafeBytes { try full.write($0) }
    } catch let caught as FileError {
      error = caught
    }
    #expect(error?.kind == .diskFull)
    #expect(error?.description.contains("/dev/full") == true)
  }

  @Test func removesOnlyLeftoversOfTheDead() throws {
    let folder = try TemporaryFolder()
    let dead = ".a\(AtomicFile.marker)2147483646-x"
    let own = AtomicFile.partialName(for: "a")
    for name in [dead, own, "a", ".hidden"] { try Data().write(to: URL(fileURLWithPath: folder.file(name))) }
    try AtomicFile.removeLeftovers(in: folder.path)
    #expect(try folder.names() == [".hidden", "a", own].sorted())
  }

  @Test func longNamesFit() throws {
    let folder = try TemporaryFolder()
    let name = String(repeating: "n", count: 255)
    try AtomicFile.write(Data([1]), to: folder.file(name))
    #expect(try folder.names() == [name])
  }
}

@Suite struct AtomicFolderTests {
  private func fill(_ folder: String, _ text: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/x"))
  }

  @Test(arguments: [AtomicFolder.Replacement.exchangeIfPossible, .twoRenames])
  func replaces(_ replacement: AtomicFolder.Replacement) throws {
    let folder = try TemporaryFolder()
    let path = folder.file("best")
    for text in ["one", "two", "three"] {
      try AtomicFolder.write(to: path, replacement: replacement) { try fill($0, text) }
      #expect(try folder.text("best/x") == text)
      #expect(try folder.names() == ["best"])
    }
  }

  @Test func aFailedWriteLeavesTheOldFolder() throws {
    let folder = try TemporaryFolder()
    try AtomicFolder.write(to: folder.file("best")) { try fill($0, "old") }
    #expect(throws: AtomicFileTests.Interruption.self) {
      try AtomicFolder.write(to: folder.file("best")) {
        try fill($0, "half")
        throw AtomicFileTests.Interruption()
      }
    }
    #expect(try folder.text("best/x") == "old")
    #expect(try folder.names() == ["best"])
  }

  @Test func errorsNameTheTargetAndNotTheHiddenFolder() throws {
    let folder = try TemporaryFolder()
    let error = #expect(throws: FileError.self) {
      try AtomicFolder.write(to: folder.file("best")) { try AtomicFile.write(Data(), to: $0 + "/no/file") }
    }
    #expect(error?.path == folder.file("best/no/file"))
  }

  @Test func killedBetweenTwoRenames() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("best")
    mkdir(folder.file(".best.previous"), 0o777)
    try fill(folder.file(".best.previous"), "old")
    mkdir(folder.file(".best.partial-2147483646-x"), 0o777)
    #expect(AtomicFolder.current(path) == folder.file(".best.previous"))
    try AtomicFolder.recover(path)
    #expect(AtomicFolder.current(path) == path)
    #expect(try folder.text("best/x") == "old")
    #expect(try folder.names() == ["best"])
  }

  @Test func killedBeforeTheOldIsDeleted() throws {
    let folder = try TemporaryFolder()
    for (name, text) in [("best", "new"), (".best.previous", "old"), (".best.partial-2147483646-x", "old")] {
      mkdir(folder.file(name), 0o777)
      try fill(folder.file(name), text)
    }
    try AtomicFolder.recover(folder.file("best"))
    #expect(try folder.text("best/x") == "new")
    #expect(try folder.names() == ["best"])
  }

  @Test func refusesToReplaceAFile() throws {
    let folder = try TemporaryFolder()
    try AtomicFile.write(Data([1]), to: folder.file("best"))
    #expect(throws: FileError.self) { try AtomicFolder.write(to: folder.file("best")) { _ in } }
  }
}

@Suite struct FolderLockTests {
  @Test func secondHolderIsRefusedWithTheFirstOnesNumber() throws {
    let folder = try TemporaryFolder()
    var lock: FolderLock? = try FolderLock(folder.path)
    let error = #expect(throws: FileError.self) { try FolderLock(folder.path) }
    #expect(error?.kind == .locked(by: getpid()))
    #expect(error?.description.contains("\(getpid())") == true)
    withExtendedLifetime(lock) {}
    lock = nil
    _ = try FolderLock(folder.path)
  }

  @Test func missingFolder() throws {
    let error = #expect(throws: FileError.self) { try FolderLock("/nonexistent/folder") }
    #expect(error?.kind == .missing)
  }
}

@Suite struct FileMappingTests {
  @Test func mapsEmptyAndRefusesFolders() throws {
    let folder = try TemporaryFolder()
    try AtomicFile.write(Data(), to: folder.file("empty"))
    #expect(try FileMapping(folder.file("empty")).bytes.isEmpty)
    #expect(throws: FileError.self) { try FileMapping(folder.path) }
    let error = #expect(throws: FileError.self) { try FileMapping(folder.file("none")) }
    #expect(error?.kind == .missing)
  }
}
