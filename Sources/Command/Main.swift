import ArgumentParser
import Fermata
import Foundation
enum ComputeType { static func parse(_ t: String) throws -> DType { if t == "f32" { return .float32 }; if t == "bf16" { return .bfloat16 }; throw ValidationError("--dtype must be f32 or bf16, got '\(t)'") } }
struct MachineOptions: ParsableArguments { func apply() throws {} }
struct InterruptFlag { let isSet = false; static func install() -> InterruptFlag { InterruptFlag() } }
@main struct FermataCommand: ParsableCommand { static let configuration = CommandConfiguration(commandName: "fermata", subcommands: [TrainCommand.self]) }
