import FermataFiles
import FermataInference
import FermataModels
import Foundation
import Testing

@Suite struct ScoreTests {
  private static let bytes = (0..<5000).map { UInt8(truncatingIfNeeded: $0 * $0 / 7) }

  @Test func totalsAreThoseOfTheLibrary() throws {
    let folder = try TestFolder.withModel()
    try folder.write(Self.bytes, to: "data")
    var session = try StreamingSession(ModelFolder.load(folder.file("model")))
    let losses = try session.score([256] + Self.bytes.map { Int($0) }).compactMap { $0.map(Double.init) }
    let result = try CommandLineTool.run("score", "-m", "model", "data", "--json", in: folder)
    #expect(result.code == 0)
    let totals = try StrictJSON.parse(result.output, place: "totals")
    let nats = try #require(totals["nats"]?.doubleValue)
    #expect(abs(nats / losses.reduce(0, +) - 1) < 1e-6)
    #expect(totals["bytes"]?.intValue == 5000 && totals["scored"]?.intValue == 5000)
    let bits = try #require(totals["bits_per_byte"]?.doubleValue)
    #expect(abs(bits * 5000 * log(2) / nats - 1) < 1e-9)
  }

  @Test func everyByteHasItsLine() throws {
    let folder = try TestFolder.withModel()
    try folder.write(Self.bytes, to: "data")
    let table = try CommandLineTool.run("score", "-m", "model", "data", "--per-token", in: folder)
    let rows = table.text.split(separator: "\n").map { $0.split(separator: "\t") }
    #expect(rows.count == 5000)
    #expect(rows.enumerated().allSatisfy { $1.count == 3 && Int($1[0]) == $0 && UInt8($1[1]) == Self.bytes[$0] })
    #expect(table.errors.contains("bits per byte"))
    let sum = rows.reduce(0) { $0 + (Double($1[2]) ?? .nan) }
    let json = try CommandLineTool.shell("cat data | \"$FERMATA\" score -m model --per-token --json", in: folder)
    let objects = try json.text.split(separator: "\n").map { try StrictJSON.parse(Data($0.utf8), place: "line") }
    #expect(objects.map { $0["byte"]?.intValue } == Self.bytes.map { Int($0) })
    #expect(objects.reduce(0) { $0 + ($1["nats"]?.doubleValue ?? .nan) } == sum)
    let totals = try StrictJSON.parse(Data(json.errors.utf8), place: "totals")
    #expect(abs((totals["nats"]?.doubleValue ?? 0) / sum - 1) < 1e-6)
  }

  @Test func aLoadedStateGoesOn() throws {
    let folder = try TestFolder.withModel()
    // Half of the data is a whole number of pieces, so that both ways do the same arithmetic.
    try folder.write(Self.bytes, to: "whole")
    try folder.write(Self.bytes.prefix(2048), to: "left")
    try folder.write(Self.bytes.dropFirst(2048), to: "right")
    let script = """
      set -e
      "$FERMATA" score -m model whole --per-token 2>> log | tail -n +2049 | cut -f 3 > expected
      "$FERMATA" score -m model left --save-state s.state >> log
      "$FERMATA" score -m model right --load-state s.state --per-token 2> totals > lines
      cut -f 3 lines | cmp - expected
      ! grep -q scored totals
      """
    let result = try CommandLineTool.shell(script, in: folder)
    #expect(result.code == 0, "\(result.text) \(result.errors)")
  }

  @Test func pipesOfAnySizeTakeConstantMemory() throws {
    #if DEBUG
      let size = 1 << 18
    #else
      let size = 1 << 21
    #endif
    let folder = try TestFolder.withModel(width: 8, layers: 2)
    func peak(_ count: Int) throws -> Int {
      let result = try CommandLineTool.shell(
        "head -c \(count) /dev/zero | tr '\\0' 'x' | \"$FERMATA\" score -m model --json", in: folder)
      let totals = try StrictJSON.parse(result.output, place: "totals")
      #expect(totals["bytes"]?.intValue == count)
      return try #require(totals["peak_memory_bytes"]?.intValue)
    }
    let (small, large) = (try peak(size / 16), try peak(size))
    #expect(large - small < 1 << 20, "\(small) bytes, then \(large)")
  }
}
