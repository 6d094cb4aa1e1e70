import FermataMixers
import Foundation
import Testing

@Suite struct TrainTests {
  /// Every mixer that `fermata mixers` names makes a model from its name alone, and one without feed-forward layers.
  @Test func mixersTrainByName() throws {
    let folder = try TestFolder.withModel()
    try folder.write(String(repeating: "The licence of this work is a promise. ", count: 200), to: "text")
    let names = MixerRegistry.standard.entries.map(\.name)
    for name in names {
      let result = try CommandLineTool.shell(
        "\"$FERMATA\" train text -o run-\(name) --mixers \(name) --width 64 --layers 1 --feed-forward 0 --steps 1 --batch 1 --length 32",
        in: folder)
      #expect(result.code == 0, "\(name): \(result.errors)")
    }
    let info = try CommandLineTool.shell("\"$FERMATA\" info -m run-mamba2", in: folder)
    #expect(info.text.contains("feed-forward none"), "\(info.text)")
  }
}
