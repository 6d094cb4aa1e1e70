import Foundation
import Testing

/// `fermata chat` as its users run it.
@Suite struct ChatTests {
  private static let template = """
    {{ bos_token }}{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}
    {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}
    """

  private func folder() throws -> TestFolder {
    let folder = try TestFolder.withModel()
    try folder.write(Self.template, to: "model/chat_template.jinja")
    try folder.write(
      #"{"bos_token": {"content": "[B]"}, "chat_template": "unused"}"#, to: "model/tokenizer_config.json")
    return folder
  }

  @Test func answersEveryLineAndSaysWhatItTook() throws {
    let folder = try folder()
    let result = try CommandLineTool.shell(
      #"printf 'Hello\ngo \\\non\n' | "$FERMATA" chat -m model -n 8 -s 1 --system S"#, in: folder)
    #expect(result.code == 0, "\(result.errors)")
    #expect(result.errors.contains("turns      2") && !result.errors.contains("again"))
    let again = try CommandLineTool.shell(
      #"printf 'Hello\ngo \\\non\n' | "$FERMATA" chat -m model -n 8 -s 1 --system S --no-stats"#, in: folder)
    #expect(again.output == result.output && again.errors.isEmpty)
  }

  @Test func printsWhatTheTemplateMakes() throws {
    let folder = try folder()
    let rendered = try CommandLineTool.run("chat", "-m", "model", "-p", "Hi", "--system", "S", "--render", in: folder)
    #expect(rendered.text == "[B]<system>S\n<user>Hi\n<assistant>")
    try folder.write("{{ messages[0].content ~ x ~ y ~ z }}", to: "own.jinja")
    let own = try CommandLineTool.run(
      "chat", "-m", "model", "-p", "Hi", "--render", "--template", "own.jinja", "--template-value", "x=false",
      "--template-value", "y=1", "--template-value", "z=word", in: folder)
    #expect(own.text == "HiFalse1word")
  }

  /// Tools reach the template with their keys as the file has them; without the flag there are none.
  @Test func offersTools() throws {
    let folder = try folder()
    try folder.write(
      "{% if tools is not none %}{{ tools | tojson }}{% else %}none{% endif %}{{ v | tojson }}", to: "own.jinja")
    try folder.write(#"[{"type": "f", "name": "é", "a": {"z": 1, "b": [2.5, null]}}]"#, to: "tools.json")
    let common = #""$FERMATA" chat -m model -p Hi --render --template own.jinja --template-value 'v={"y":1,"x":2}'"#
    let offered = try CommandLineTool.shell(common + " --tools tools.json", in: folder)
    #expect(
      offered.text == #"[{"type": "f", "name": "é", "a": {"z": 1, "b": [2.5, null]}}]{"y": 1, "x": 2}"#,
      "\(offered.text) \(offered.errors)")
    #expect(try CommandLineTool.shell(common, in: folder).text == #"none{"y": 1, "x": 2}"#)
    for (content, code, word) in [
      ("{}", Int32(65), "list"), ("[", 65, "tools.json"), ("[{\"a\":1,\"a\":2}]", 65, "twice"),
    ] {
      try folder.write(content, to: "tools.json")
      let refused = try CommandLineTool.shell(common + " --tools tools.json", in: folder)
      #expect(refused.code == code && refused.errors.contains(word), "\(refused.errors)")
    }
    #expect(try CommandLineTool.shell(common + " --tools nowhere.json", in: folder).code == 66)
  }

  @Test(arguments: [
    (65, "line 1: 'endif' ", "{% if x %}", "-p Hi"), (65, "no", "{{ raise_exception('no') }}", "-p Hi"),
    (64, "name=value", "x", "-p Hi --template-value x"),
    (66, "cannot read missing.jinja", "x", "--template missing.jinja"),
  ])
  func refusesWithAReason(_ code: Int32, _ reason: String, _ template: String, _ flags: String) throws {
    let folder = try folder()
    try folder.write(template, to: "model/chat_template.jinja")
    let result = try CommandLineTool.shell(#""$FERMATA" chat -m model \#(flags)"#, in: folder)
    let words = reason.split(separator: " ").map(String.init)
    #expect(result.code == code && words.allSatisfy { result.errors.contains($0) }, "\(result.code) \(result.errors)")
    #expect(result.output.isEmpty)
  }

  @Test func saysWhenThereIsNoTemplate() throws {
    let folder = try TestFolder.withModel()
    let result = try CommandLineTool.run("chat", "-m", "model", "-p", "Hi", in: folder)
    #expect(result.code == 66 && result.errors.contains("--template"), "\(result.errors)")
  }
}
