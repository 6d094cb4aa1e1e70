import ArgumentParser
import FermataTensors

/// What the processor can do and which of it is used.
struct ProcessorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "processor",
    abstract: "The processor's features, and the threads and kernels in use.",
    discussion: """
      Examples:
        fermata processor
        fermata processor --path avx2 -t 1
        FERMATA_PATH=portable fermata processor
      """)

  @OptionGroup(title: "Machine") var machine: MachineOptions

  func run() throws {
    try machine.apply()
    let missing = Processor.allPaths.filter { !Processor.paths.contains($0) && !Processor.testPaths.contains($0) }
    let output = StandardOutput()
    try output.write(
      """
      features  \(Processor.features)
      paths     \(Processor.paths.joined(separator: " "))
      not here  \(missing.isEmpty ? "none" : missing.joined(separator: " "))
      for tests \(Processor.testPaths.joined(separator: " "))
      path      \(Processor.path)
      threads   \(Processor.threads) of \(Processor.cores)

      """)
    try output.flush()
  }
}
