import Fermata
import Foundation

/// A program of `peers` that does a row's work: a Python module and its settings.
struct PeerProgram {
  var module: String
  var settings: [String: JSONValue]
}

/// A peer that runs beside us and waits between its samples. It is asked and answers in lines of JSON.
final class Peer {
  private let process = Process()
  private let questions = Pipe()
  private let answers = Pipe()
  private var buffer = Data()

  /// - Parameter environment: the folder of a Python virtual environment.
  init(_ program: PeerProgram, environment: String, scripts: String, threads: Int) throws {
    process.executableURL = URL(fileURLWithPath: environment + "/bin/python")
    process.arguments = [scripts + "/serve.py", program.module, try JSON.text(.object(program.settings)), "\(threads)"]
    process.standardInput = questions
    process.standardOutput = answers
    try process.run()
  }

  deinit {
    try? questions.fileHandleForWriting.close()
    process.waitUntilExit()
  }

  var identifier: Int32 { process.processIdentifier }

  /// Ways in which the peer can do the work ("eager", "compiled").
  func modes() throws -> [String] {
    try ask(["do": "modes"])["modes"]?.arrayValue?.compactMap(\.stringValue) ?? []
  }

  /// The mean sample of so many repetitions.
  func sample(_ mode: String, repetitions: Int) throws -> Double {
    let answer = try ask(["do": "measure", "mode": .string(mode), "repetitions": .int(repetitions)])
    guard let value = answer["value"]?.doubleValue else { throw BenchError("the peer gave no value: \(answer)") }
    return value
  }

  /// The peer's results on our inputs.
  func results(_ mode: String, _ inputs: [(name: String, value: Tensor)]) throws -> [String: Tensor] {
    let folder = NSTemporaryDirectory() + "fermata-bench-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let (from, to) = (folder + "/inputs.safetensors", folder + "/outputs.safetensors")
    try TensorFile.write(inputs, to: from)
    _ = try ask(["do": "check", "mode": .string(mode), "inputs": .string(from), "outputs": .string(to)])
    return try TensorFile.read(to).mapValues { try $0.cast(to: .float32) }
  }

  private func ask(_ question: [String: JSONValue]) throws -> [String: JSONValue] {
    try questions.fileHandleForWriting.write(contentsOf: Data((JSON.text(.object(question)) + "\n").utf8))
    let line = try nextLine()
    guard let answer = try JSON.value(line).objectValue else { throw BenchError("the peer said: \(line)") }
    if let problem = answer["error"]?.stringValue { throw BenchError("the peer: \(problem)") }
    return answer
  }

  private func nextLine() throws -> String {
    while true {
      if let end = buffer.firstIndex(of: 10) {
        let line = String(decoding: buffer[buffer.startIndex..<end], as: UTF8.self)
        buffer.removeSubrange(buffer.startIndex...end)
        return line
      }
      let more = answers.fileHandleForReading.availableData
      if more.isEmpty { throw BenchError("the peer ended; its last words stand above") }
      buffer.append(more)
    }
  }
}

struct BenchError: Error, CustomStringConvertible {
  var description: String
  init(_ text: String) { description = text }
}

private enum JSON {
  static func text(_ value: JSONValue) throws -> String {
    String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
  }
  static func value(_ text: String) throws -> JSONValue {
    try JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))
  }
}
