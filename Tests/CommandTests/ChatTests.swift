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
