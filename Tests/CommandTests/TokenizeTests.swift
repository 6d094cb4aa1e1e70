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

  @Test func filesAndTheirSpecialTokens() throws {
    let folder = try TestFolder()
    let file = """
      {"added_tokens": [{"id": 3, "content": "<s>", "special": true}], "pre_tokenizer": {"type": "Whitespace"},
       "post_processor": {"type": "BertProcessing", "cls": ["<s>", 3], "sep": ["<s>", 3]},
       "model": {"type": "WordLevel", "vocab": {"one": 0, "two": 1, "?": 2}, "unk_token": "?"}}
      """
    try folder.write(file, to: "tokenizer.json")
    let script = """
      printf 'one <s>two three' > text
      "$FERMATA" tokenize -m . --ids < text
      "$FERMATA" tokenize -m tokenizer.json --ids --special < text
      "$FERMATA" tokenize -m . < text
      echo 3 0 1 | "$FERMATA" detokenize -m .
      """
    let result = try CommandLineTool.shell(script, in: folder)
    #expect(
      result.text == "0 3 1 2\n3 0 3 1 2 3\n0\t\"one\"\n3\t\"<s>\"\n1\t\"two\"\n2\t\"?\"\none two", "\(result.errors)")
    try folder.write(file.replacingOccurrences(of: "WordLevel", with: "WordLevle"), to: "tokenizer.json")
    let broken = try CommandLineTool.run("tokenize", "-m", ".", in: folder)
    #expect(broken.code == 65 && broken.errors.contains("did you mean 'WordLevel'?"))
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
