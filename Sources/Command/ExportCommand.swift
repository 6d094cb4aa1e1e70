import ArgumentParser
import FermataModels

/// Writes a model folder that other programs read.
struct ExportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write a model folder that transformers reads, in one file and any type.",
    discussion: """
      Examples:
        fermata export -m llama -o copy                  shards become one file, byte for byte
        fermata export -m llama -o small --dtype bf16    f32, f16 and f64 become bf16

      The model is checked first: nothing damaged is passed on. Tokenizer and generation settings are copied as they are.
      """)

  @Option(name: .shortAndLong, help: "Folder of a model, or of a training run (its best model, else its last).")
  var model: String

  @Option(name: .shortAndLong, help: "Folder to write; it must not hold anything.")
  var output: String

  @Option(help: "Type of the weights: f32 or bf16; by default their own.")
  var dtype: ComputeType?

  func run() throws {
    try ModelFolder.export(ModelFolder.resolve(model), to: output, as: dtype?.dtype)
  }
}
