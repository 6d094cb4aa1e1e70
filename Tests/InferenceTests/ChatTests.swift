import FermataFiles
import FermataModels
import FermataTemplates
import FermataTensors
import FermataTestSupport
import FermataTokenizers
import Testing

@testable import FermataInference

/// Conversations: what the state has read is what the template writes, and nothing is read twice.
@Suite(.serialized) struct ChatTests {
  private static let plain = """
    {% for message in messages %}<{{ message.role }}>{{ message.content }}
    {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}
    """
  /// Writes answers of the past otherwise than they were given.
  private static let shortening = """
    {% for message in messages %}<{{ message.role }}>\
    {{ message.content[:2] if message.role == 'assistant' else message.content }}
    {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}
    """

  private func model() throws -> LanguageModel {
    try LanguageModel(
      ModelConfiguration(width: 32, layers: 2, feedForwardWidth: 64, mixers: StreamingTests.hybrid), seed: 8)
  }

  /// Answers of letters only, so that they are what the model has read.
  private static let options: GenerationOptions = {
    var options = GenerationOptions()
    options.limit = 20
    options.sampling.seed = 3
    options.ignoresEnd = true
    options.endTokens = Set(0...256).subtracting(97...122)
    return options
  }()

  private func chat(_ template: String, system: String? = nil) throws -> ChatSession {
    try ChatSession(
      StreamingSession(model()), tokenizer: ByteTokenizer(), template: ChatTemplate(template), system: system)
  }

  private func turn(_ chat: inout ChatSession, _ question: String) throws -> String {
    var generator = try chat.ask(question, options: Self.options)
    var answer: [UInt8] = []
    while let bytes = try generator.next() { answer += bytes }
    let text = String(decoding: answer, as: UTF8.self)
    chat.finish(generator, answer: text)
    return text
  }

  /// The logits after reading the whole conversation at once.
  private func expectSame(_ chat: ChatSession, _ template: String) throws {
    let text = try ChatTemplate(template).render(chat.messages, addingGenerationPrompt: false)
    var whole = try StreamingSession(model())
    try whole.read(Array(text.utf8.dropLast()).map { Int($0) })
    #expect(whole.position == chat.session.position)
    for (a, b) in zip(try #require(whole.logits), try #require(chat.session.logits)) { #expect(abs(a - b) < 1e-4) }
  }

  @Test func nothingIsReadTwice() throws {
    var chat = try chat(Self.plain, system: "Be kind.")
    for question in ["Hello", "And then?", "Why is that so?\nTell me."] {
      let before = chat.session.position
      let answer = try turn(&chat, question)
      #expect(answer.count == 20 && chat.tokensReadAgain == 0)
      #expect(chat.session.position == before + chat.tokensRead + 20)
      try expectSame(chat, Self.plain)
    }
    #expect(chat.messages.map(\.role) == ["system"] + Array(repeating: ["user", "assistant"], count: 3).flatMap { $0 })
  }

  @Test func changedTurnsAreReadAgainAndNoOthers() throws {
    var chat = try chat(Self.shortening)
    _ = try turn(&chat, "Hello")
    #expect(chat.tokensReadAgain == 0)
    for question in ["Go on", "And on"] {
      _ = try turn(&chat, question)
      // Only the answer that the template has cut.
      #expect(chat.tokensReadAgain == 20)
    }
    let text = try ChatTemplate(Self.shortening).render(Array(chat.messages.dropLast()), addingGenerationPrompt: true)
    let last = try #require(chat.messages.last?.content)
    var whole = try StreamingSession(model())
    try whole.read(Array((text + last).utf8).map { Int($0) })
    for (a, b) in zip(try #require(whole.logits), try #require(chat.session.logits)) { #expect(abs(a - b) < 1e-4) }
  }

  @Test func refusedConversationsChangeNothing() throws {
    var chat = try chat(
      "{% for m in messages %}{% if m.content == 'bad' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}"
    )
    _ = try turn(&chat, "good")
    let (position, messages) = (chat.session.position, chat.messages)
    #expect(throws: TemplateError.self) { try chat.ask("bad") }
    #expect(chat.session.position == position && chat.messages == messages)
    _ = try turn(&chat, "better")
  }
}
