import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataMixers

@Suite struct RememberedTests {
  @Test func makesAnewWhatChanged() throws {
    let remembered = Remembered<Float>()
    var made = 0
    func sum(_ tensors: [Tensor]) throws -> Float {
      try remembered(tensors) {
        made += 1
        return try tensors.reduce(0) { try $0 + $1.sum().item() }
      }
    }
    var (a, b) = (try Tensor([1, 2] as [Float]), try Tensor([3] as [Float]))
    #expect(try sum([a, b]) == 6)
    #expect(try sum([a, b]) == 6)
    #expect(made == 1)
    // The memory is shared with what is remembered, so a change in place goes to a copy.
    try b.withMutableBytes { $0.storeBytes(of: 5, as: Float.self) }
    #expect(try sum([a, b]) == 8)
    try a.withMutableBytes { $0.storeBytes(of: 2, as: Float.self) }
    #expect(try sum([a, b]) == 9)
    #expect(made == 3)
    #expect(try sum([a.slice(1..<2, axis: 0), b]) == 7)
    // Tracked tensors have a graph of their own.
    for _ in 0..<2 { #expect(try sum([a.tracked(), b]) == 9) }
    #expect(made == 6)
  }
}
