import ArgumentParser
import FermataFiles
import FermataInference
import FermataModels
import FermataTemplates
import FermataTensors
import FermataTokenizers
import Foundation

/// Converses with a model.
struct ChatCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chat",
    abstract: "Converse with a model.",
    discussion: """
      Examples:
        fermata chat -m models/assistant
        fermata chat -m models/assistant --system "Answer in one sentence." --temp 0.7
        fermata chat -m models/assistant -p "What is a fermata?"
        fermata chat -m models/assistant -p "What is a fermata?" --render
        fermata chat -m models/assistant --tools tools.json -p "What is the time?"
        fermata chat -m models/assistant < questions.txt

      Every line is a message; one that ends in \\ goes on in the next line. /new begins a new conversation, /exit or the \
      end of the input ends it. Ctrl-C breaks an answer off.

      Conversations are written as the model's chat_template.jinja or tokenizer_config.json says. The state is kept between \
      turns, so that nothing is read twice; where a template changes what it wrote before, the turns that changed are read \
      again, and the statistics say so.
      """)

  @OptionGroup(title: "Model") var source: ModelSource

  @Option(help: ArgumentHelp("What the model is told before the conversation.", valueName: "text"))
  var system: String?

  @Option(
    name: .shortAndLong, parsing: .unconditional,
    help: ArgumentHelp("One message: print the answer and end; - reads standard input.", valueName: "text"))
  var prompt: String?

  @Option(help: ArgumentHelp("Template to use in place of the model's.", valueName: "file"))
  var template: String?

  @Option(
    help: ArgumentHelp(
      "A JSON list of the tools that the template may offer; calls are printed, not made.", valueName: "file"))
  var tools: String?

  @Option(
    name: .customLong("template-value"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "A value for the template, in JSON (enable_thinking=false); repeatable.", valueName: "name=value"))
  var templateValues: [String] = []

  @Flag(help: "Print what the template makes of the first message, and end.")
  var render = false

  @OptionGroup(title: "Sampling") var samplingFlags: SamplingFlags

  @Option(
    name: [.customShort("n"), .customLong("n-predict")], parsing: .unconditional,
    help: "The most tokens of an answer; -1: without end.")
  var count = 1024

  @Option(
    name: .customLong("stop"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp("End an answer before this text; repeatable.", valueName: "text"))
  var stops: [String] = []

  @Flag(inversion: .prefixedNo, help: "Show speed and memory on standard error at the end.")
  var stats = true

  @OptionGroup(title: "Length") var lengthOption: LengthOption
  @OptionGroup(title: "Machine") var machine: MachineOptions

  func validate() throws {
    if count < -1 { throw ValidationError("-n must be at least 0, or -1 for no end; got \(count)") }
    if stops.contains("") { throw ValidationError("--stop must not be empty") }
    _ = try givenValues()
  }

  func run() throws {
    try machine.apply()
    let folder = AtomicFolder.current(try source.folder())
    let chatTemplate = try chatTemplate(folder)
    if render { return try printRendering(chatTemplate) }
    InterruptFlag.install()
    let model = try lengthOption.fix(source.load(), needed: nil)
    var stream = try StreamingSession(model, pieceLength: PromptSource.pieceLength)
    stream.limitLength(to: lengthOption.maximum)
    let session = try ChatSession(
      stream, tokenizer: source.tokenizer(of: model),
      template: chatTemplate, system: system, values: values())
    var options = GenerationOptions()
    options.sampling = try samplingFlags.options(defaultsIn: folder)
    options.limit = count < 0 ? nil : count
    options.stops = stops
    options.endTokens = try GenerationConfiguration(folder: folder).endTokens
    var conversation = Conversation(session, options: options)
    try conversation.run(reading: prompt.map(message))
    if stats { conversation.showStatistics() }
  }

  private func chatTemplate(_ folder: String) throws -> ChatTemplate {
    guard let template else { return try ChatTemplate(folder: folder) }
    return try ChatTemplate(ChatTemplate.text(of: template), specialTokens: ChatTemplate.specialTokens(folder: folder))
  }

  /// What the template is given beside the conversation.
  private func values() throws -> [String: OrderedJSON] {
    var values = try givenValues()
    if let tools {
      let list = try OrderedJSON.read(tools)
      guard case .array = list else {
        throw JSONError(place: tools, problem: "tools must be a list, one object a tool")
      }
      values["tools"] = list
    }
    return values
  }

  /// The values given for the template, each in JSON or else as text.
  private func givenValues() throws -> [String: OrderedJSON] {
    try Dictionary(
      templateValues.map { pair in
        guard let equals = pair.firstIndex(of: "="), equals > pair.startIndex else {
          throw ValidationError("--template-value must be name=value, got '\(pair)'")
        }
        let text = String(pair[pair.index(after: equals)...])
        let value = try? OrderedJSON.parse(Array(text.utf8), place: "--template-value")
        return (String(pair[..<equals]), value ?? .string(text))
      }
    ) { $1 }
  }

  private func message(_ given: String) throws -> String {
    guard given == "-" else { return given }
    return String(decoding: try InputReader("-").readToEnd(), as: UTF8.self)
  }

  private func printRendering(_ template: ChatTemplate) throws {
    let first = system.map { [ChatMessage(role: "system", content: $0)] } ?? []
    let question = try prompt.map(message) ?? String(decoding: InputReader("-").readToEnd(), as: UTF8.self)
    let output = StandardOutput()
    try output.write(
      template.render(
        first + [ChatMessage(role: "user", content: question)], addingGenerationPrompt: true, values: values()))
    try output.endLineOnTerminal()
    try output.flush()
  }
}
