import Fermata

/// One row of the table: what is measured, beside whom, and how good it must be.
protocol Row {
  /// What `make bench ROW=…` names it by.
  var name: String { get }
  /// What the table says.
  var title: String { get }
  /// How a sample is shown.
  var quantity: Quantity { get }
  /// What one sample moves or computes, for its share of what the machine can do.
  var work: MachineWork? { get }
  var goal: Goal { get }
  /// The same work done by somebody else.
  var peer: PeerProgram? { get }
  /// Makes the inputs, and compares our results on them with an oracle.
  func prepare() throws -> Subject
}

extension Row {
  var work: MachineWork? { nil }
  var peer: PeerProgram? { nil }
}

/// What a row measures once it is ready.
struct Subject {
  /// Our results against an oracle's.
  var checks: [Check]
  /// What the peer computes its results from, and what they must be.
  var inputs: [(name: String, value: Tensor)] = []
  var expected: [(name: String, value: Tensor, allowed: Double)] = []
  /// Does the work once and returns the sample: seconds or bytes; less is better.
  var sample: () throws -> Double
}

/// How samples, of which less is always better, are shown.
enum Quantity {
  /// So many units of work in a sample of seconds: "tokens/s".
  case rate(Double, String)
  case milliseconds
  case megabytes
  case factor

  /// The sample in the unit of the table.
  func shown(_ sample: Double) -> Double {
    switch self {
    case .rate(let count, _): count / sample
    case .milliseconds: sample * 1e3
    case .megabytes: sample / 1e6
    case .factor: sample
    }
  }

  var unit: String {
    switch self {
    case .rate(_, let unit): unit
    case .milliseconds: "ms"
    case .megabytes: "MB"
    case .factor: ""
    }
  }

  /// Whether a sample is a time, so that several repetitions may be averaged.
  var isTime: Bool {
    switch self {
    case .rate, .milliseconds: true
    case .megabytes, .factor: false
    }
  }

  /// Memory is measured the first time, when nothing of it is kept from before; times of day differ, so they need rounds.
  func rounds(_ wanted: Int) -> Int {
    switch self {
    case .rate, .milliseconds: wanted
    case .factor: min(wanted, 3)
    case .megabytes: 1
    }
  }
}

/// What a sample asks of the machine.
enum MachineWork {
  /// Bytes read and written.
  case bytes(Double)
  /// Floating-point operations of products in a type.
  case flops(Double, DType)
}

/// What must hold for a row to have reached what it should.
indirect enum Goal {
  /// At least so many times as fast as the peer.
  case timesPeer(Double)
  /// At least this part of the machine's copy or product rate.
  case shareOfMachine(Double)
  /// A sample of at most this, in the unit of the table.
  case atMost(Double)
  case all([Goal])
  case any([Goal])
}
