import FermataFiles
import FermataModels
import FermataTasks
import FermataTensors
import FermataTestSupport
import Foundation
import Testing

@testable import FermataTraining

@Suite(.serialized) struct TrainerTests {
  @Test func lossFalls() throws {
    var trainer = try Fixture.trainer(
      Fixture.options {
        $0.steps = 40; $0.learningRate = 1e-2
      })
    var losses: [Double] = []
    for _ in 0..<40 { losses.append(try trainer.advance().loss) }
    #expect(losses[0] > 5 && losses[39] < 3, "losses \(losses[0]) to \(losses[39])")
  }

  @Test func accumulationIsALargerBatch() throws {
    // Two batches of 1 and one of 2 see the same rows in the same order.
    var large = try Fixture.trainer(Fixture.options { $0.batch = 2 })
    var small = try Fixture.trainer(
      Fixture.options {
        $0.batch = 1; $0.accumulation = 2
      })
    let (a, b) = (try large.advance(), try small.advance())
    #expect(abs(a.loss - b.loss) < 1e-5 && abs(a.gradientNorm - b.gradientNorm) < 1e-4 * a.gradientNorm)
  }

  @Test func schedules() throws {
    for name in Schedules.names {
      let schedule = try Schedules.named(name)
      let shares = (0..<100).map { Schedules.share(schedule, step: $0, warmup: 10, total: 100) }
      #expect(shares.allSatisfy { $0 >= 0 && $0 <= 1 })
      #expect(shares[0] < 0.2 && shares[10] > 0.99)
      #expect(zip(shares[10...], shares[11...]).allSatisfy { $0 >= $1 })
      if name != "constant" { #expect(shares[99] < 0.15) }
    }
    #expect(throws: TrainingError.self) { try Schedules.named("cosin") }
  }

  @Test func aLossThatIsNoNumberChangesNothing() throws {
    var trainer = try Fixture.trainer(
      Fixture.options {
        $0.learningRate = 1e30; $0.clip = 0; $0.warmup = 0; $0.steps = 50
      })
    var before = try trainer.model.parameters()
    do {
      for _ in 0..<50 {
        before = try trainer.model.parameters()
        _ = try trainer.advance()
      }
      Issue.record("a learning rate of 10³⁰ should have failed")
    } catch let error as TrainingError {
      guard case .notFinite = error else { throw error }
      for ((_, a), (_, b)) in zip(before, try trainer.model.parameters()) {
        #expect(try a.values(as: Float.self).map(\.bitPattern) == b.values(as: Float.self).map(\.bitPattern))
      }
    }
  }

  @Test func impossibleSettingsAreRefused() {
    let changes: [(inout TrainingOptions) -> Void] = [
      { $0.steps = 0 }, { $0.batch = -1 },
      {
        $0.batch = 1 << 20; $0.length = 1 << 20
      }, { $0.learningRate = .nan },
      { $0.beta1 = 1 }, { $0.clip = -1 }, { $0.schedule = "none" }, { $0.streamGradient = .exact },
      { $0.computeType = .int32 }, { $0.warmup = .max }, { $0.epsilon = .infinity }, { $0.piecesPerContext = .max },
      { $0.piecesPerContext = 1 << 30 }, { $0.length = .max }, { $0.dropout = 1 }, { $0.dropout = -0.1 },
      { $0.dropout = .nan },
    ]
    for change in changes {
      #expect(throws: TrainingError.self) { try Fixture.options(change).validate() }
    }
  }

  /// bf16's validation loss is within 1% of f32's after 1,000 steps.
  @Test func bfloat16KeepsUp() throws {
    let steps = 1000
    var losses: [Double] = []
    for dtype in [DType.float32, .bfloat16] {
      var trainer = try Fixture.trainer(
        Fixture.options {
          $0.steps = steps; $0.computeType = dtype; $0.learningRate = 3e-3; $0.batch = 4
        })
      for _ in 0..<steps { _ = try trainer.advance() }
      let held = TokenDocument(Document(name: "held", bytes: Fixture.text(4000, seed: 99)))
      losses.append(try trainer.validationLoss(ValidationBatches([held], batch: 4, length: 48, beginToken: 256)))
    }
    print("validation loss after \(steps) steps: f32 \(losses[0]), bf16 \(losses[1])")
    #expect(abs(losses[1] - losses[0]) <= 0.01 * losses[0], "f32 \(losses[0]), bf16 \(losses[1])")
  }
}
