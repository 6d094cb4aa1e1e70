import Fermata
import Foundation

// Trains a small hybrid model on a text for a minute or so, then streams from it.
let path = CommandLine.arguments.dropFirst().first ?? "/usr/share/common-licenses/GPL-3"
let text = try String(contentsOfFile: path, encoding: .utf8)
let configuration = try ModelConfiguration(
  width: 128, layers: 3,
  mixers: [
    ["type": "gated_linear_attention", "num_heads": 2],
    ["type": "moving_average", "decay": 0.9],
    ["type": "softmax_attention", "num_attention_heads": 2, "sliding_window": 64],
  ])
let registry = MixerRegistry.standard.adding(MovingAverage.self)

var options = TrainingOptions()
(options.steps, options.batch, options.length) = (200, 4, 256)
var trainer = try Trainer(LanguageModel(configuration, registry: registry), text: text, options: options)
while trainer.step < options.steps {
  let report = try trainer.advance()
  if report.step % 50 == 0 { print("step \(report.step): \(report.bitsPerByte) bits per byte") }
}

// Without a limit the stream never ends by itself; cancelling the task ends it.
var generation = GenerationOptions()
(generation.limit, generation.ignoresEnd) = (nil, true)
let streaming = Task { [model = trainer.model, generation] in
  for try await text in model.stream(from: "The program ", options: generation) {
    print(text, terminator: "")
    fflush(nil)
  }
}
try await Task.sleep(for: .seconds(3))
streaming.cancel()
try await streaming.value
print()
