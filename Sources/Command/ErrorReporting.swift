import ArgumentParser
import FermataFiles
import FermataMixers
import FermataReports
import FermataTasks
import FermataTemplates
import FermataTensors
import FermataTokenizers
import FermataTraining
import Foundation

/// A command line that asks for something that cannot be.
struct UsageError: Error, CustomStringConvertible {
  var description: String

  init(_ description: String) { self.description = description }
}

/// Codes that the process ends with, as sysexits.h names them.
enum Exit {
  static let usage: Int32 = 64
  static let data: Int32 = 65
  static let noInput: Int32 = 66
  static let system: Int32 = 71
  static let inputOutput: Int32 = 74
  /// What shells show for a process that a broken pipe ended: 128 + SIGPIPE.
  static let brokenPipe: Int32 = 141
}

/// Turns whatever was thrown into one line on standard error and an exit code.
enum ErrorReporting {
  /// Prints what there is to print.
  /// - Returns: the code to exit with.
  static func report(_ error: any Error) -> Int32 {
    if error is BrokenPipe { return Exit.brokenPipe }
    if let code = error as? ExitCode { return code.rawValue }
    if let code = code(for: error) {
      printError(oneLine("\(error)"))
      return code
    }
    let parsed = RootCommand.exitCode(for: error)
    if parsed == .success {
      return printHelp(RootCommand.fullMessage(for: error))
    }
    if parsed == .validationFailure {
      // Thrown by a command at work, it carries no usage; the parser's own do.
      let full = (error as? ValidationError)?.message ?? RootCommand.fullMessage(for: error)
      printError(full.hasPrefix("Error: ") ? String(full.dropFirst("Error: ".count)) : full)
      return Exit.usage
    }
    printError(oneLine((error as? any LocalizedError)?.errorDescription ?? "\(error)"))
    return EXIT_FAILURE
  }

  /// The code for an error of ours; nil for those of the argument parser and of strangers.
  static func code(for error: any Error) -> Int32? {
    switch error {
    case is UsageError: Exit.usage
    case let error as FileError: fileCode(error)
    case let error as DataError: dataCode(error)
    case let error as TrainingError: trainingCode(error)
    case let error as TensorError: error.operation == "allocation" ? Exit.system : Exit.data
    case is JSONError, is ConfigurationError, is TokenizerError, is TemplateError: Exit.data
    case is LogError: Exit.inputOutput
    case is Interrupted: InterruptFlag().exitCode
    default: nil
    }
  }

  private static func fileCode(_ error: FileError) -> Int32 {
    let isReading = error.operation.contains("read") || error.operation.contains("list")
    return switch error.kind {
    case .missing where isReading, .notPermitted where isReading, .wrongKind where isReading: Exit.noInput
    case .missing, .notPermitted, .wrongKind, .diskFull, .system: Exit.inputOutput
    case .malformed: Exit.data
    case .locked: EXIT_FAILURE
    }
  }

  private static func dataCode(_ error: DataError) -> Int32 {
    switch error {
    case .missing, .unreadable: Exit.noInput
    case .empty, .tooShort, .tooLarge, .foreignCursor: Exit.data
    case .invalid: Exit.usage
    }
  }

  private static func trainingCode(_ error: TrainingError) -> Int32 {
    switch error {
    case .setting: Exit.usage
    case .nothingToResume: Exit.noInput
    case .foreign: Exit.data
    case .memory: Exit.system
    case .notFinite, .occupied: EXIT_FAILURE
    }
  }

  /// One line "fermata: …" on standard error.
  static func printError(_ message: String) {
    StandardError.write("fermata: \(message)\n")
  }

  private static func oneLine(_ text: String) -> String {
    text.split(whereSeparator: \.isNewline).joined(separator: " ")
  }

  /// Help and version go to standard output and are a success, unless they cannot be written.
  private static func printHelp(_ text: String) -> Int32 {
    do {
      let output = StandardOutput()
      try output.write(text + "\n")
      try output.flush()
      return EXIT_SUCCESS
    } catch {
      return report(error)
    }
  }
}
