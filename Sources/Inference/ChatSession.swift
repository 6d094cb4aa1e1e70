import FermataFiles
import FermataTemplates
import FermataTensors
import FermataTokenizers

/// A conversation with a model whose state is kept between turns, so that nothing is read twice.
///
/// Each turn is rendered by the model's template. Where the text so far is the beginning of the new one, only the rest is
/// read. A template may change what it wrote before (one that drops earlier thoughts does); then the conversation goes
/// back to the last turn that still fits and reads on from there, and `tokensReadAgain` says how much that was.
public struct ChatSession: Sendable {
  /// The conversation so far.
  public private(set) var messages: [ChatMessage]
  /// Tokens of earlier turns that the last question had to read again.
  public private(set) var tokensReadAgain = 0
  /// Tokens that the last question read.
  public private(set) var tokensRead = 0

  private let tokenizer: any Tokenizer
  private let template: ChatTemplate
  private let values: [String: OrderedJSON]
  /// What had been read at the ends of questions and answers, newest last. The first is empty.
  private var places: [Place]

  private struct Place {
    var text: String
    var session: StreamingSession
  }

  /// Turns whose ends are kept to go back to.
  private static let mostPlaces = 128

  /// - Parameters:
  ///   - session: one that has read nothing.
  ///   - values: more names for the template.
  public init(
    _ session: StreamingSession, tokenizer: any Tokenizer, template: ChatTemplate, system: String? = nil,
    values: [String: OrderedJSON] = [:]
  ) throws {
    try require(
      session.position == 0, "chat", expected: "a session at its beginning", got: "one at \(session.position) tokens")
    self.tokenizer = tokenizer
    self.template = template
    self.values = values
    messages = system.map { [ChatMessage(role: "system", content: $0)] } ?? []
    places = [Place(text: "", session: session)]
  }

  /// The state after everything read and written.
  public var session: StreamingSession { places[places.count - 1].session }

  /// Reads a question and returns what generates the answer. Give what came of it to `finish`.
  /// - Throws: `TemplateError` when the template refuses the conversation; the session is as it was.
  public mutating func ask(_ question: String, options: GenerationOptions = GenerationOptions()) throws -> Generator {
    let asked = messages + [ChatMessage(role: "user", content: question)]
    let text = try template.render(asked, addingGenerationPrompt: true, values: values)
    let (fitting, tokens) = try rest(of: text)
    let place = places[fitting]
    let generator = try Generator(place.session, tokenizer: tokenizer, tokens: tokens, options: options)
    tokensReadAgain = max(0, session.position - place.session.position)
    tokensRead = tokens.count
    places.removeSubrange((fitting + 1)...)
    messages = asked
    keep(Place(text: text, session: generator.session))
    return generator
  }

  /// The last place that a text goes on from, and the tokens from there on. A tokenizer may write the beginning of a text
  /// otherwise than its middle; then the tokens of the rest are not the end of the whole text's, and an earlier place is
  /// taken, at last the first.
  private func rest(of text: String) throws -> (place: Int, tokens: [Int]) {
    func encode(_ bytes: some Sequence<UInt8>) throws -> [Int] {
      try tokenizer.encode(Array(bytes), addingSpecialTokens: false, parsingSpecialTokens: true)
    }
    let whole = try encode(text.utf8)
    for place in places.indices.reversed() where text.utf8.starts(with: places[place].text.utf8) {
      let tokens = try encode(text.utf8.dropFirst(places[place].text.utf8.count))
      if whole.suffix(tokens.count).elementsEqual(tokens) { return (place, tokens) }
      // The same text with the same tokens before it, as the state has read them.
      let read = places[place].session.position
      if whole.count >= read, try encode(places[place].text.utf8).elementsEqual(whole.prefix(read)) {
        return (place, Array(whole.dropFirst(read)))
      }
    }
    return (0, whole)
  }

  /// Takes note of an answer, whole or broken off.
  /// - Parameter answer: what the generator gave out.
  public mutating func finish(_ generator: Generator, answer: String) {
    messages.append(ChatMessage(role: "assistant", content: answer))
    // The state has read a stop text, or bytes that were held back, and the answer has not: the next question reads the
    // answer again.
    guard generator.saidAllItRead else { return }
    keep(Place(text: places[places.count - 1].text + answer, session: generator.session))
  }

  private mutating func keep(_ place: Place) {
    places.append(place)
    // The first one stays: from there everything can be read.
    if places.count > Self.mostPlaces { places.remove(at: 1) }
  }
}
