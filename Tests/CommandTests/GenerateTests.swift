import Foundation
import Testing

@Suite struct GenerateTests {
  @Test func equalSeedsGiveEqualTextsAndOthersDoNot() throws {
    let folder = try TestFolder.withModel()
    func text(_ seed: String) throws -> Data {
      let result = try CommandLineTool.run(
        "generate", "-m", "model", "-p", "Once", "-n", "60", "--ignore-eos", "-s", seed, "--raw", in: folder)
      #expect(result.code == 0, "\(result.errors)")
      #expect(result.errors.contains("seed       \(seed)"))
      return result.output
    }
    let first = try text("7")
    #expect(first.count == 60)
    #expect(try text("7") == first)
    #expect(try text("8") != first)
  }

  @Test(arguments: [0, 1, 5]) func stopsAfterTheLimit(_ limit: Int) throws {
    let folder = try TestFolder.withModel()
    let result = try CommandLineTool.run(
      "generate", "-m", "model", "-n", "\(limit)", "--raw", "--ignore-eos", "--no-stats", in: folder)
    #expect(result.code == 0 && result.output.count == limit && result.errors.isEmpty)
  }

  @Test func stopTextsEndTheTextAndAreNotPrinted() throws {
    let folder = try TestFolder.withModel()
    let common = "\"$FERMATA\" generate -m model -n 200 --ignore-eos -s 5 --raw --no-stats"
    let whole = try CommandLineTool.shell(common, in: folder).output
    // A stop text must be valid text: a printable byte that the run is sure to have somewhere.
    let index = try #require(whole.firstIndex { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "-") })
    let stop = String(decoding: [whole[index]], as: UTF8.self)
    let stopped = try CommandLineTool.shell(common + " --stop \"$1\"", [stop], in: folder)
    #expect(stopped.code == 0)
    #expect(stopped.output == whole[..<index])
  }

  @Test func printsWholeCharactersOnly() throws {
    let folder = try TestFolder.withModel()
    let result = try CommandLineTool.run(
      "generate", "-m", "model", "-n", "300", "--temp", "1.5", "--top-p", "1", "--ignore-eos", "-s", "1", in: folder)
    #expect(String(validating: result.output, as: UTF8.self) != nil)
    // Random bytes hold ill-formed sequences; each shows as the replacement character.
    #expect(result.text.contains("\u{FFFD}"))
  }

  @Test(arguments: ["f32", "bf16"]) func aLoadedStateGoesOnAsIfNothingHadHappened(_ type: String) throws {
    let folder = try TestFolder.withModel()
    let common = "\"$FERMATA\" generate -m model --temp 0 --ignore-eos --raw --no-stats --dtype \(type)"
    let script = """
      set -e
      \(common) -p "The quick brown fox jumps over" -n 40 > whole
      \(common) -p "The quick brown" -n 0 --save-state a.state
      \(common) -p " fox jumps over" -n 40 --load-state a.state > parts
      cmp whole parts
      # What was generated has been read too: its next byte is the prompt that goes on.
      \(common) -p "The quick brown fox jumps over" -n 10 --save-state b.state > begin
      head -c 11 whole | tail -c 1 > next
      \(common) -f next -n 29 --load-state b.state > end
      cat begin next end | cmp - whole
      # Its prediction was saved as well, so that no prompt is needed.
      \(common) -n 30 --load-state b.state > rest
      cat begin rest | cmp - whole
      """
    let result = try CommandLineTool.shell(script, in: folder)
    #expect(result.code == 0, "\(result.text) \(result.errors)")
  }

  @Test func longPromptsFromFilesAndPipesAreReadInPieces() throws {
    let folder = try TestFolder.withModel()
    try folder.write((0..<3000).map { UInt8(32 + $0 * 7 % 90) }, to: "prompt")
    let common = "\"$FERMATA\" generate -m model --temp 0 -n 20 --ignore-eos --raw --stats"
    let file = try CommandLineTool.shell(common + " -f prompt", in: folder)
    let pipe = try CommandLineTool.shell("cat prompt | \(common) -p -", in: folder)
    #expect(file.code == 0 && pipe.code == 0)
    #expect(file.output == pipe.output && file.output.count == 20)
    #expect(file.errors.contains("prompt     3001 tokens"))
  }

  @Test func theModelsOwnSettingsAreDefaults() throws {
    let folder = try TestFolder.withModel()
    try folder.write(#"{"do_sample": false, "vendor_key": 1}"#, to: "model/generation_config.json")
    func text(_ flags: String...) throws -> Data {
      try CommandLineTool.shell(
        "\"$FERMATA\" generate -m model -n 30 --raw --ignore-eos \"$@\"", flags, in: folder
      ).output
    }
    #expect(try text() == text("--temp", "0"))
    #expect(try text("--temp", "2", "-s", "1") != text())
    try folder.write(#"{"temperature": "hot"}"#, to: "model/generation_config.json")
    let bad = try CommandLineTool.run("generate", "-m", "model", in: folder)
    #expect(bad.code == 65 && bad.errors.contains("temperature must be a number"))
  }

  @Test func ctrlCEndsWithStatisticsAndTheState() throws {
    let folder = try TestFolder.withModel()
    let script = """
      "$FERMATA" generate -m model -n -1 --ignore-eos --save-state s.state > text &
      for try in $(seq 600); do [ -s text ] && break; sleep 0.05; done
      kill -INT $!
      wait $!
      """
    let result = try CommandLineTool.shell(script, in: folder)
    #expect(result.code == 130)
    #expect(result.errors.contains("(interrupted)"))
    #expect(FileManager.default.fileExists(atPath: folder.file("s.state")))
  }

  @Test func aClosedPipeEndsQuietly() throws {
    let folder = try TestFolder.withModel()
    let result = try CommandLineTool.shell(
      "\"$FERMATA\" generate -m model -n -1 --ignore-eos --raw | head -c 10; exit ${PIPESTATUS[0]}", in: folder)
    #expect(result.output.count == 10)
    #expect(result.code == 141 && result.errors.isEmpty)
  }

  @Test func findsTheBestModelOfARun() throws {
    let folder = try TestFolder.withModel(seed: 1)
    try FileManager.default.createDirectory(atPath: folder.file("run"), withIntermediateDirectories: true)
    try folder.saveModel("run/last", seed: 2)
    func text(_ model: String) throws -> Data {
      try CommandLineTool.run("generate", "-m", model, "-n", "30", "--temp", "0", "--ignore-eos", in: folder).output
    }
    #expect(try text("run") == text("run/last"))
    try folder.saveModel("run/best", seed: 1)
    #expect(try text("run/") == text("model"))
    #expect(try text("run") != text("run/last"))
  }
}
