import FermataFiles
import FermataModels
import FermataTensors
import Foundation
import Testing

/// `generate`, `score` and `embed` with a tokenizer from the model's folder.
@Suite struct FamilyTextTests {
  /// A tokenizer of 41 words: w0, w1, …, with w1 before every text and w2 behind it where special tokens are added.
  private static let tokenizer: String = {
    let vocabulary = (0..<41).map { "\"w\($0)\": \($0)" }.joined(separator: ", ")
    let special = [1, 2].map {
      "{\"id\": \($0), \"content\": \"w\($0)\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
        + "\"normalized\": false, \"special\": true}"
    }.joined(separator: ", ")
    return """
      {"version": "1.0", "truncation": null, "padding": null, "added_tokens": [\(special)], "normalizer": null,
       "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": null,
       "post_processor": {"type": "TemplateProcessing",
         "single": [{"SpecialToken": {"id": "w1", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
         "special_tokens": {"w1": {"id": "w1", "ids": [1], "tokens": ["w1"]}}},
       "model": {"type": "WordLevel", "vocab": {\(vocabulary)}, "unk_token": "w0"}}
      """
  }()

  private func folder(_ name: String, _ edit: (String, String)? = nil) throws -> TestFolder {
    let goldens = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Goldens/families").path
    let (folder, file) = (try TestFolder(), try SafetensorsFile(goldens + "/\(name).safetensors"))
    try FileManager.default.createDirectory(atPath: folder.file("model"), withIntermediateDirectories: true)
    try folder.write((file.metadata["config"] ?? "").utf8, to: "model/config.json")
    let source = try SafetensorsFile(goldens + "/\(file.metadata["weights_of"] ?? name).safetensors")
    let weights = try source.entries.filter { $0.name.hasPrefix("weights/") }
      .map { (String($0.name.dropFirst(8)), try TensorFile.tensor($0, of: source)) }
    try TensorFile.write(weights, to: folder.file("model/model.safetensors"))
    try folder.write(Self.tokenizer.utf8, to: "model/tokenizer.json")
    return folder
  }

  @Test func generateGoesOnWithTokens() throws {
    let folder = try folder("llama")
    let common = "\"$FERMATA\" generate -m model --temp 0 --ignore-eos --no-stats"
    let result = try CommandLineTool.shell(
      """
      set -e
      \(common) -p "w5 w6 w7" -n 20 > whole
      \(common) -p "w5 w6 w7" -n 8 --save-state s > first
      \(common) --load-state s -n 12 > rest
      (cat first; printf ' '; cat rest) | tr -s ' ' '\\n' > parts
      tr -s ' ' '\\n' < whole | diff - parts
      test $(wc -w < whole) = 20
      \(common) -p "w5 w6 w7" -n 6 --beams 3 | grep -q '^w[0-9]'
      """, in: folder)
    #expect(result.code == 0, "\(result.text) \(result.errors)")
  }

  /// A length on which positions depend is what --max-length says, or the prompt with what follows.
  @Test func lengthsAreFixed() throws {
    let folder = try folder("llama_dynamic")
    let result = try CommandLineTool.shell(
      """
      set -e
      run() { "$FERMATA" generate -m model --temp 0 --ignore-eos --no-stats -p "w5 w6 w7" "$@"; }
      run -n 50 > a
      run -n 50 --max-length 54 > b
      cmp a b
      ! run -n -1 2> endless
      grep -q max-length endless
      ! run -n 50 --max-length 20 2> small
      grep -q max-length small
      """, in: folder)
    #expect(result.code == 0, "\(result.text) \(result.errors)")
  }

  @Test func scoreCountsTokensAndBytes() throws {
    let folder = try folder("gemma2")
    try folder.write("w5 w6 w7 w8".utf8, to: "text")
    let result = try CommandLineTool.run("score", "-m", "model", "text", "--json", in: folder)
    let totals = try StrictJSON.parse(result.output, place: "totals")
    #expect(totals["bytes"]?.intValue == 11 && totals["tokens"]?.intValue == 5 && totals["scored"]?.intValue == 4)
    let lines = try CommandLineTool.run("score", "-m", "model", "text", "--per-token", in: folder).text
    #expect(lines.hasPrefix("0\t1\tNA\n1\t5\t") && lines.split(separator: "\n").count == 5)
  }

  @Test func embeddingsAreLinesOfJSON() throws {
    for (name, pooling) in [("bert", "mean"), ("bert", "cls"), ("llama", "last"), ("bart", "mean")] {
      let folder = try folder(name)
      let result = try CommandLineTool.shell(
        "printf 'w5 w6\\nw7 w8 w9\\nw5 w6' | \"$FERMATA\" embed -m model --pooling \(pooling)", in: folder)
      #expect(result.code == 0, "\(result.errors)")
      let rows = try result.text.split(separator: "\n").map { try StrictJSON.parse(Data($0.utf8), place: "line") }
      #expect(rows.count == 3 && rows.map { $0["tokens"]?.intValue } == [3, 4, 3])
      let vectors = rows.map { $0["embedding"]?.arrayValue?.compactMap(\.doubleValue) ?? [] }
      #expect(vectors[0] == vectors[2] && vectors[0] != vectors[1])
      for vector in vectors {
        #expect(vector.count == 16 && abs(vector.reduce(0) { $0 + $1 * $1 } - 1) < 1e-5)
      }
    }
  }

  /// Lines of any length, in pieces that end anywhere, give what each gives alone, in their order.
  @Test func embeddingsComeInTheOrderOfTheLines() throws {
    let folder = try folder("llama")
    // Lines of 1 to 9 words, some with thousands of spaces between, with both kinds of ends and without the last.
    let lines = (0..<300).map { line in
      (0...line * 7 % 9).map { "w\(5 + (line * 13 + $0 * 5) % 30)" }
        .joined(separator: String(repeating: " ", count: line % 50 == 7 ? 9000 : 1))
    }
    let text = lines.enumerated().map { $1 + ($0 == 299 ? "" : $0 % 3 == 0 ? "\r\n" : "\n") }.joined()
    try folder.write(text.utf8, to: "lines")
    let result = try CommandLineTool.shell("\"$FERMATA\" embed -m model < lines", in: folder)
    #expect(result.code == 0, "\(result.errors)")
    let rows = try result.text.split(separator: "\n").map { try StrictJSON.parse(Data($0.utf8), place: "line") }
    #expect(rows.map { $0["index"]?.intValue } == (0..<300).map { $0 })
    #expect(rows.map { $0["tokens"]?.intValue } == (0..<300).map { 2 + $0 * 7 % 9 })
    for line in [0, 7, 57, 124, 299] {
      try folder.write(lines[line].utf8, to: "line")
      let alone = try CommandLineTool.shell("\"$FERMATA\" embed -m model < line", in: folder)
      let vectors = try [rows[line], StrictJSON.parse(alone.output, place: "alone")].map {
        ($0["embedding"]?.arrayValue ?? []).compactMap(\.doubleValue)
      }
      #expect(vectors[0].count == 16 && zip(vectors[0], vectors[1]).allSatisfy { abs($0 - $1) < 1e-6 }, "line \(line)")
    }
  }

  @Test func beamSearchTakesNoSettingsOfStreams() throws {
    let folder = try folder("llama")
    for flags in ["--beams 3 --stop w5", "--beams 3 --save-state s", "--beams 3 -n -1", "--beams 0", "--beams 1025"] {
      let result = try CommandLineTool.shell("\"$FERMATA\" generate -m model -p w5 \(flags)", in: folder)
      #expect(result.code == 64 && result.errors.contains("--beams"), "\(flags): \(result.errors)")
      #expect(result.text.isEmpty && !FileManager.default.fileExists(atPath: folder.file("s")))
    }
    // One beam is no search.
    let single = try CommandLineTool.shell(
      "\"$FERMATA\" generate -m model -p w5 --beams 1 --stop w5 --save-state s -n 3 --no-stats", in: folder)
    #expect(single.code == 0, "\(single.errors)")
  }

  @Test func anEncoderWritesNoText() throws {
    let folder = try folder("bert")
    let result = try CommandLineTool.run("generate", "-m", "model", "-p", "w5", in: folder)
    #expect(result.code == 64 && result.errors.contains("embed"))
    // What transformers' BartForConditionalGeneration makes of the same weights and ids: the end at once, and with the end
    // hidden one word for ever.
    let pair = try self.folder("bart")
    let text = try CommandLineTool.run("generate", "-m", "model", "-p", "w5 w6", "-n", "15", "--temp", "0", in: pair)
    #expect(text.code == 0 && text.text.isEmpty && text.errors.contains("end of the document"), "\(text.errors)")
    let going = try CommandLineTool.run(
      "generate", "-m", "model", "-p", "w5 w6", "-n", "6", "--temp", "0", "--ignore-eos", in: pair)
    #expect(going.code == 0 && going.text == "w17 w17 w17 w17 w17 w17", "\(going.text) \(going.errors)")
  }
}
