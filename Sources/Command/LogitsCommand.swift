import ArgumentParser
import FermataFiles
import FermataModels
import FermataTensors

/// What a model makes of given tokens, as numbers.
struct LogitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "logits",
    abstract: "Write a model's logits or hidden states for tokens in a file.",
    discussion: """
      Examples:
        fermata logits --model llama --inputs in.safetensors --out out.safetensors

      The inputs hold input_ids (batch, length), I64 or I32, and may hold attention_mask (0 for padding), token_type_ids \
      and decoder_input_ids. The output holds logits (batch, length, vocabulary), or for a model without a head \
      last_hidden_state (batch, length, width), F32. Sequences are read whole.
      """)

  @OptionGroup(title: "Model") var source: ModelSource

  @Option(help: ArgumentHelp("Tokens to read.", valueName: "file"))
  var inputs: String

  @Option(name: [.customLong("out"), .customLong("output")], help: ArgumentHelp("File to write.", valueName: "file"))
  var output: String

  @OptionGroup(title: "Machine") var machine: MachineOptions

  func run() throws {
    try machine.apply()
    let inputs = try Self.read(inputs)
    let result = try source.open(fallback: .f32).outputs(inputs)
    try TensorFile.write([(name: result.name, value: result.values)], to: output)
  }

  private static func read(_ path: String) throws -> ModelInputs {
    let file = try SafetensorsFile(path)
    func integers(_ name: String) throws -> Tensor? {
      guard let entry = file.entry(name) else { return nil }
      guard [.int64, .int32, .uint8, .bool].contains(entry.type), entry.shape.count == 2 else {
        throw FileError.malformed(
          path, "'\(name)' is \(entry.dtype) \(entry.shape); I64 or I32 (batch, length) is needed")
      }
      let tensor = try TensorFile.tensor(entry, of: file)
      // 64 bits that do not fit 32 become the nearest that does, which no vocabulary holds.
      return try tensor.cast(to: .int32)
    }
    guard let tokens = try integers("input_ids") else {
      let names = file.entries.map(\.name).joined(separator: ", ")
      throw FileError.malformed(path, "the tensor 'input_ids' is missing; there is \(names.isEmpty ? "none" : names)")
    }
    let mask = try integers("attention_mask").map { try $0 .!= Tensor.zeros([], .int32) }
    return try ModelInputs(
      tokens: tokens, valid: mask, types: integers("token_type_ids"), decoderTokens: integers("decoder_input_ids"))
  }
}
