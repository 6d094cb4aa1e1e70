import Foundation
import Testing

@testable import FermataTasks

/// Documents whose tokens tell document and place apart.
private func documents(_ sizes: [Int]) -> [TokenDocument] {
  sizes.enumerated().map { index, size in
    TokenDocument(name: "\(index)", tokens: (0..<size).map { Int32(index * 100_000 + $0) })
  }
}

private let begin: Int32 = 99_999_999

/// Checks what holds for every batch, and returns its targets, padding left out.
private func check(_ batch: TokenBatch) -> [Int32] {
  var seen: [Int32] = []
  for row in 0..<batch.batch {
    for column in 0..<batch.length {
      let index = row * batch.length + column
      let (input, target, position) = (batch.inputs[index], batch.targets[index], batch.positions[index])
      #expect((batch.resets[index] == 1) == (position == 0))
      if column > 0, position > 0 {
        #expect(position == batch.positions[index - 1] + 1)
        #expect(batch.documents[index] == batch.documents[index - 1])
      } else if column > 0 {
        #expect(batch.documents[index] != batch.documents[index - 1])
      }
      guard batch.documents[index] >= 0 else {
        #expect(target == -1)
        continue
      }
      seen.append(target)
      // The input is the token before the target in the same document, or its beginning.
      #expect(input == (target % 100_000 == 0 ? begin : target - 1))
      if column > 0, position > 0 { #expect(input == batch.targets[index - 1]) }
    }
  }
  return seen
}

private let shapes: [[Int]] = [
  [1], [64], [7], [8], [9], [100, 3, 0, 8, 41, 1, 16], [5, 5, 5], [1000], Array(repeating: 2, count: 30),
]

@Suite struct PackedBatchesTests {
  @Test(arguments: shapes, [(1, 8), (3, 8), (4, 5), (2, 1)])
  func eachPairOnceAnEpoch(_ sizes: [Int], _ shape: (batch: Int, length: Int)) throws {
    let total = sizes.reduce(0, +)
    let documents = documents(sizes)
    let all = Set(sizes.enumerated().flatMap { index, size in (0..<size).map { Int32(index * 100_000 + $0) } })
    for mode in PackingMode.allCases {
      if total < shape.length || mode == .stream && total < shape.batch { continue }
      var supply = try PackedBatches(
        documents, batch: shape.batch, length: shape.length, beginToken: begin, mode: mode, seed: 5)
      var seen: [Int32] = []
      while seen.count < 3 * total { seen += check(supply.next()) }
      for epoch in 0..<3 where mode == .stream || shape.batch == 1 {
        #expect(Set(seen[epoch * total..<(epoch + 1) * total]) == all)
      }
      let counts = Dictionary(seen.prefix(2 * total).map { ($0, 1) }) { $0 + $1 }
      #expect(counts.values.allSatisfy { $0 <= 3 })
    }
  }

  @Test(arguments: PackingMode.allCases, [0, 1, 2, 9, 40])
  func aRestoredCursorDrawsTheSame(_ mode: PackingMode, _ drawn: Int) throws {
    let documents = documents([100, 3, 8, 41, 1, 16])
    var supply = try PackedBatches(documents, batch: 3, length: 8, beginToken: begin, mode: mode, seed: .max)
    for _ in 0..<drawn { _ = supply.next() }
    let saved = try JSONEncoder().encode(supply.cursor)
    let expected = (0..<20).map { _ in supply.next() }
    var resumed = try PackedBatches(documents, batch: 3, length: 8, beginToken: begin, mode: mode, seed: .max)
    try resumed.restore(JSONDecoder().decode(PackedBatches.Cursor.self, from: saved))
    #expect((0..<20).map { _ in resumed.next() } == expected)
    #expect(resumed.cursor == supply.cursor)
  }

  @Test func foreignCursorsAreRefused() throws {
    func supply(
      _ sizes: [Int] = [100, 30], batch: Int = 2, length: Int = 8, mode: PackingMode = .rows, seed: UInt64 = 1
    ) throws -> PackedBatches {
      try PackedBatches(documents(sizes), batch: batch, length: length, beginToken: begin, mode: mode, seed: seed)
    }
    var mine = try supply()
    let before = mine
    for other in [
      try supply([100, 31]), try supply(batch: 3), try supply(length: 9), try supply(mode: .stream),
      try supply(seed: 2),
    ] {
      let error = #expect(throws: DataError.self) { try mine.restore(other.cursor) }
      guard case .foreignCursor = error else {
        Issue.record("\(error.map(String.init(describing:)) ?? "none")")
        return
      }
    }
    var wrong = mine.cursor
    wrong.offset = 1000
    #expect(throws: DataError.self) { try mine.restore(wrong) }
    wrong.offset = -1
    #expect(throws: DataError.self) { try mine.restore(wrong) }
    #expect(mine.cursor == before.cursor)
  }

  @Test func seedsAndEpochsDiffer() throws {
    let documents = documents([200])
    func first(_ seed: UInt64, skip: Int = 0) throws -> TokenBatch {
      var supply = try PackedBatches(documents, batch: 4, length: 10, beginToken: begin, seed: seed)
      for _ in 0..<skip { _ = supply.next() }
      return supply.next()
    }
    #expect(try first(1) == first(1))
    #expect(try first(1).inputs != first(2).inputs)
    #expect(try first(1).inputs != first(1, skip: 6).inputs)
  }

  @Test func rowsNeverReachPastTheirLength() throws {
    var supply = try PackedBatches(documents([1000, 2, 3]), batch: 2, length: 16, beginToken: begin)
    for _ in 0..<100 { #expect(try #require(supply.next().positions.max()) < 16) }
  }

  @Test func aStreamGoesOnWhereItEnded() throws {
    var supply = try PackedBatches(documents([1000, 500]), batch: 2, length: 16, beginToken: begin, mode: .stream)
    var last = supply.next()
    #expect(last.resets[0] == 1 && last.resets[16] == 1)
    for _ in 1..<46 {
      let next = supply.next()
      for row in 0..<2 where next.resets[row * 16] == 0 {
        #expect(next.inputs[row * 16] == last.targets[row * 16 + 15])
        #expect(next.positions[row * 16] == last.positions[row * 16 + 15] + 1)
        #expect(next.documents[row * 16] == last.documents[row * 16 + 15])
      }
      #expect(next.resets.reduce(0) { $0 + Int($1) } <= 2)
      last = next
    }
    #expect(supply.cursor.epoch == 0)
    let oldNumber = last.documents[0]
    // The last piece of the epoch, then lanes that begin anew under other numbers.
    _ = supply.next()
    let next = supply.next()
    #expect(next.epoch == 1 && next.resets[0] == 1 && next.resets[16] == 1)
    #expect(next.documents[0] != oldNumber)
  }

  @Test func bytesAreTheirOwnTokens() throws {
    let document = Document(name: "a", bytes: Data("xabc".utf8).dropFirst())
    var supply = try PackedBatches([TokenDocument(document)], batch: 1, length: 3, beginToken: 256)
    let batch = supply.next()
    #expect(batch.inputs == [256, 97, 98])
    #expect(batch.targets == [97, 98, 99])
    #expect(batch.targetCount == 3)
  }

  @Test func badSettings() {
    for (batch, length) in [(0, 1), (1, 0), (-1, 5), (.max, 2), (1 << 20, 1 << 20)] {
      #expect(throws: DataError.self) {
        try PackedBatches(documents([5]), batch: batch, length: length, beginToken: begin)
      }
    }
    #expect(throws: DataError.tooShort(path: "0", size: 5, needed: 6)) {
      try PackedBatches(documents([5]), batch: 1, length: 6, beginToken: begin)
    }
    #expect(throws: DataError.tooShort(path: "0", size: 5, needed: 6)) {
      try PackedBatches(documents([5]), batch: 6, length: 1, beginToken: begin, mode: .stream)
    }
    #expect(throws: DataError.self) { try PackedBatches([], batch: 1, length: 1, beginToken: begin) }
  }
}

@Suite struct ValidationBatchesTests {
  @Test(arguments: shapes, PackingMode.allCases)
  func everyPairOnceInOrder(_ sizes: [Int], _ mode: PackingMode) throws {
    for (batch, length) in [(1, 8), (3, 8), (4, 2000)] {
      let batches = try ValidationBatches(
        documents(sizes), batch: batch, length: length, beginToken: begin, mode: mode)
      let seen = batches.flatMap(check)
      #expect(seen.count == sizes.reduce(0, +))
      #expect(Set(seen).count == seen.count)
      #expect(batches.pairs == seen.count)
      #expect(Array(batches).count == batches.count)
      if mode == .stream, batch == 1 { #expect(seen == seen.sorted()) }
    }
  }

  @Test(arguments: PackingMode.allCases)
  func aLimitSpreadsRows(_ mode: PackingMode) throws {
    let batches = try ValidationBatches(
      documents([1000]), batch: 2, length: 10, beginToken: begin, mode: mode, limit: 5)
    #expect(batches.count == 5)
    let seen = batches.flatMap(check)
    #expect(seen.count == batches.pairs)
    #expect(seen.max() ?? 0 > 500)
    #expect(throws: DataError.self) {
      try ValidationBatches(documents([1000]), batch: 2, length: 10, beginToken: begin, mode: mode, limit: 0)
    }
  }
}
