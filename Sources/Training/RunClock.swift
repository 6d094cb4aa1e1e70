import FermataReports
import FermataTensors
import Foundation

/// Time and speed of a run.
struct RunClock {
  private let earlier: Double
  private let firstStep: Int
  private var nanoseconds: UInt64 = 0
  private var firstNanoseconds: UInt64 = 0
  /// Steps of this process.
  private(set) var steps = 0
  private var targets = 0

  init(earlier: Double, firstStep: Int) {
    self.earlier = earlier
    self.firstStep = firstStep
  }

  mutating func add(_ step: StepReport, nanoseconds: UInt64) {
    if steps == 0 { firstNanoseconds = nanoseconds }
    steps += 1
    targets += step.targets
    self.nanoseconds += nanoseconds
  }

  /// Seconds of steps, those before a resumption included.
  var seconds: Double { earlier + Double(nanoseconds) / 1e9 }
  var secondsPerStep: Double {
    steps > 1 ? Double(nanoseconds - firstNanoseconds) / 1e9 / Double(steps - 1) : Double(nanoseconds) / 1e9
  }
  var tokensPerSecond: Double { Double(targets) / Double(max(steps, 1)) / max(secondsPerStep, 1e-9) }

  func progress(_ step: StepReport, total: Int) -> RunProgress {
    RunProgress(
      step: step.step, total: total, loss: step.loss, bitsPerByte: step.bitsPerByte, tokensPerSecond: tokensPerSecond,
      secondsLeft: secondsPerStep * Double(max(0, total - step.step)), peakMemory: Memory.usage.peak)
  }
}

/// A line of log.jsonl.
struct LogLine: Encodable {
  var step: Int
  var loss: Double
  var bits_per_byte: Double
  var learning_rate: Double
  var gradient_norm: Double
  var tokens: Int
  var seconds: Double
  var tokens_per_second: Double
  var peak_bytes: Int

  init(_ report: StepReport, _ clock: RunClock) {
    step = report.step
    loss = report.loss
    bits_per_byte = report.bitsPerByte
    learning_rate = report.learningRate
    gradient_norm = report.gradientNorm
    tokens = report.targets
    seconds = clock.seconds
    tokens_per_second = clock.tokensPerSecond
    peak_bytes = Memory.usage.peak
  }
}

/// The line of a validation.
struct ValidationLine: Encodable {
  var step: Int
  var validation_loss: Double
  var validation_bits_per_byte: Double
}
