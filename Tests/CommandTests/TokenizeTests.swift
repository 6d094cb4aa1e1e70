import Foundation
import Testing

@Suite struct TokenizeTests {
  @Test func everyByteOfStandardInputCounts() throws {
    let folder = try TestFolder.withModel()
    let script = """
      printf 'a\\n' | "$FERMATA" tokenize -m bytes --ids
      printf '' | "$FERMATA" tokenize -m bytes --ids
      printf 'a' | "$FERMATA" tokenize -m bytes --ids --special
      printf 'GAT' | "$FERMATA" tokenize -m dna
      printf 'b' | "$FERMATA" tokenize -m model --ids
      """
    let result = try CommandLineTool.shell(script, in: folder)
    #expect(result.text == "97 10\n\n256 97\n9\t\"G\"\n7\t\"A\"\n10\t\"T\"\n98\n", "\(result.errors)")
  }

  @Test func detokenizeIsTheInverse() throws {
    let folder = try TestFolder()
    try folder.write((0..<3000).map { UInt8(truncatingIfNeeded: $0 * 7 + $0 / 256) }, to: "data")
    let script = """
      "$FERMATA" tokenize -m bytes --ids < data | "$FERMATA" detokenize -m bytes | cmp - data
      """
    #expect(try CommandLineTool.shell(script, in: folder).code == 0)
    let special = try CommandLineTool.shell("echo 7,1,8 | \"$FERMATA\" detokenize -m dna --special", in: folder)
    #expect(special.text == "A[SEP]C")
  }

  @Test func refusalsAreOneClearLine() throws {
    let folder = try TestFolder()
    let bad = try CommandLineTool.shell("echo 1 two | \"$FERMATA\" detokenize -m bytes", in: folder)
    #expect(bad.code == 64 && bad.errors.contains("'two'"))
    let outside = try CommandLineTool.shell("echo 300 | \"$FERMATA\" detokenize -m bytes", in: folder)
    #expect(outside.code == 65 && outside.errors.contains("no token 300"))
    let missing = try CommandLineTool.shell("\"$FERMATA\" tokenize -m nowhere < /dev/null", in: folder)
    #expect(missing.code == 66 && missing.errors.contains("nowhere"))
  }
}
