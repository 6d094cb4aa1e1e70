import FermataTensors
import FermataTestSupport
import Testing

@testable import FermataLayers

/// A module of modules, with a parameter that may be absent.
private struct Block: Module {
  var norm: RMSNorm
  var feedForward: FeedForward
  var head: Linear
  var scale: Tensor?

  mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
    try visitor.module("norm", &norm)
    try visitor.module("mlp", &feedForward)
    try visitor.module("head", &head)
    try visitor.parameter("scale", &scale)
  }
}

@Suite struct ModuleTests {
  private func block() throws -> Block {
    var random = RandomSource(seed: 1)
    return Block(
      norm: try RMSNorm(4), feedForward: try FeedForward(4, hidden: 6, random: &random),
      head: try Linear(4, 3, bias: true, random: &random), scale: nil)
  }

  @Test func everyParameterHasItsFullName() throws {
    var module = try block()
    var names = ["norm.weight", "mlp.gate_up_proj.weight", "mlp.down_proj.weight", "head.weight", "head.bias"]
    #expect(try module.parameters().map(\.name) == names)
    #expect(try module.parameters().map(\.value.shape) == [[4], [12, 4], [4, 6], [3, 4], [3]])
    #expect(try module.parameterCount() == 4 + 48 + 24 + 12 + 3)
    module.scale = try Tensor.ones([2])
    names.append("scale")
    #expect(try module.parameters().map(\.name) == names)
    #expect(try LayerNorm(2).parameters().map(\.name) == ["weight", "bias"])
  }

  @Test func updatesReachEveryParameter() throws {
    var module = try block()
    try module.updateParameters { name, value in value = try Tensor.full(value.shape, name == "head.bias" ? 2 : 1) }
    #expect(try module.parameters().allSatisfy { try $0.value.floats().allSatisfy { $0 == 1 || $0 == 2 } })
    #expect(try module.head.bias?.floats() == [2, 2, 2])
    #expect(throws: TensorError.self) {
      try module.updateParameters { _, _ in throw TensorError("test", expected: "nothing", got: "something") }
    }
  }

  @Test func trackingGivesEveryParameterAGradient() throws {
    let module = try block()
    let tracked = try module.tracked()
    #expect(try module.parameters().allSatisfy { !$0.value.isTracked })
    var random = TestRandom()
    let x = try random.tensor([2, 4])
    let y = try tracked.head(tracked.feedForward(tracked.norm(x)))
    let found = try gradients(of: y.squared().sum())
    for (name, value) in try tracked.parameters() { #expect(found[value]?.shape == value.shape, "\(name)") }
  }

  @Test func conversionTurnsMatricesOnly() throws {
    let converted = try block().converted(to: .bfloat16)
    for (name, value) in try converted.parameters() {
      #expect(value.dtype == (value.rank >= 2 ? .bfloat16 : .float32), "\(name)")
    }
    var random = TestRandom()
    let x = try random.tensor([3, 4], .bfloat16)
    #expect(try converted.head(converted.feedForward(converted.norm(x))).dtype == .bfloat16)
  }

  /// A role given to a module is that of all its parameters; without one rank decides.
  @Test func rolesAreDeclaredWhereParametersAreVisited() throws {
    struct Declared: Module {
      var block: Block
      var rates: Tensor
      mutating func visitParameters(_ visitor: inout ParameterVisitor) throws {
        try visitor.module("exact", &block, role: .coefficient)
        try visitor.module("plain", &block)
        try visitor.parameter("rates", &rates, role: .coefficient)
      }
    }
    var module = Declared(block: try block(), rates: try Tensor.ones([2, 2]))
    var roles: [String: ParameterRole] = [:]
    try module.updateParametersByRole { name, role, _ in roles[name] = role }
    #expect(roles.filter { $0.key.hasPrefix("exact") }.allSatisfy { $0.value == .coefficient })
    #expect(roles["plain.head.weight"] == .weight && roles["plain.head.bias"] == .coefficient)
    #expect(roles["rates"] == .coefficient && roles.count == 11)
    #expect(try module.converted(to: .bfloat16).rates.dtype == .float32)
  }

  @Test func initialWeightsKeepTheScale() throws {
    var random = RandomSource(seed: 2)
    let linear = try Linear(400, 300, gain: 2, random: &random)
    let deviation = try linear.weight.squared().mean().item().squareRoot()
    #expect(abs(deviation - 0.1) < 0.002)
    let embedding = try Embedding(100, 50, random: &random)
    #expect(abs(try embedding.weight.squared().mean().item().squareRoot() - 0.02) < 0.001)
  }
}
