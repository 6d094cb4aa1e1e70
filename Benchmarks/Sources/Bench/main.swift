import CFermataKernels
import Fermata
import Foundation

// bench [--list] [--table] [--peers ENVIRONMENT] [--results FOLDER] [--rounds N] [--command FERMATA] [PATTERN…]
// Measures the rows whose name begins with a pattern, all without one, and prints the table of every row measured so far.
struct Arguments {
  var patterns: [String] = []
  var peers: String?
  var results = "results"
  var scripts = "peers"
  var command = "../.build/release/fermata"
  var rounds = 7
  var listsOnly = false
  var showsOnly = false

  init(_ words: [String]) throws {
    var rest = words[...]
    func value(_ option: String) throws -> String {
      guard let next = rest.popFirst() else { throw BenchError("\(option) needs a value") }
      return next
    }
    while let word = rest.popFirst() {
      switch word {
      case "--list": listsOnly = true
      case "--table": showsOnly = true
      case "--peers": peers = try value(word)
      case "--results": results = try value(word)
      case "--scripts": scripts = try value(word)
      case "--command": command = try value(word)
      case "--rounds":
        guard let count = Int(try value(word)), count > 0 else { throw BenchError("--rounds needs a number above 0") }
        rounds = count
      case _ where word.hasPrefix("-"): throw BenchError("there is no option \(word)")
      default: patterns.append(word)
      }
    }
  }

  func names(_ row: any Row) -> Bool { patterns.isEmpty || patterns.contains { row.name.hasPrefix($0) } }
}

func run() throws {
  let arguments = try Arguments(Array(CommandLine.arguments.dropFirst()))
  let rows = RowTable.rows(command: arguments.command)
  if arguments.listsOnly {
    for row in rows { print("\(row.name)  \(row.title)") }
    return
  }
  let chosen = rows.filter(arguments.names)
  guard !chosen.isEmpty else { throw BenchError("no row begins with \(arguments.patterns); --list shows them") }
  if !arguments.showsOnly {
    try Processor.useEnvironment()
    if arguments.peers == nil { print("No peers: `make bench-peers` installs them. Measuring ours alone.") }
    let harness = Harness(
      machine: try Machine.measured(), peers: arguments.peers, scripts: arguments.scripts, rounds: arguments.rounds)
    for row in chosen {
      let result = harness.run(row)
      try result.save(in: arguments.results)
      FileHandle.standardError.write(Data("\(row.name): \(result.refused ?? "measured")\n".utf8))
    }
  }
  print(Report.text(rows.filter(arguments.names).compactMap { Result.load($0.name, from: arguments.results) }))
}

do {
  try run()
} catch {
  FileHandle.standardError.write(Data("bench: \(error)\n".utf8))
  exit(1)
}
