import Synchronization

/// Where a tracked tensor came from: an output of a node of the graph.
package struct Origin: Sendable {
  package let node: Node
  package let output: Int
}

/// One operation of the graph: the origins of its inputs and how gradients of its outputs become gradients of its inputs.
/// Immutable once made, so graphs may be shared between threads. It holds no tensor with a history of its own.
package final class Node: @unchecked Sendable {
  package typealias Backward = @Sendable (_ outputGradients: [Tensor?]) throws -> [Tensor?]

  let id: Int
  package let name: String
  /// Only `deinit` changes it.
  var inputs: [Origin?]
  let outputCount: Int
  let backward: Backward?

  private static let nextID = Atomic<Int>(0)

  package init(_ name: String, inputs: [Origin?], outputCount: Int = 1, backward: Backward?) {
    id = Node.nextID.wrappingAdd(1, ordering: .relaxed).newValue
    self.name = name
    self.inputs = inputs
    self.outputCount = outputCount
    self.backward = backward
  }

  /// A chain of a million operations must not free itself by a million nested calls.
  deinit {
    var pending: [Node] = inputs.compactMap { $0?.node }
    inputs = []
    while var node = pending.popLast() {
      if isKnownUniquelyReferenced(&node) {
        pending.append(contentsOf: node.inputs.compactMap { $0?.node })
        node.inputs = []
      }
    }
  }
}

extension Tensor {
  /// The same values as a leaf of a new graph: `gradients(of:)` will have an entry for it.
  public func tracked() -> Tensor {
    var copy = detached
    copy.origin = Origin(node: Node("leaf", inputs: [], backward: nil), output: 0)
    return copy
  }

  /// Attaches the history of an operation to its outputs, when some input is tracked.
  package static func record(
    _ name: String, _ inputs: [Tensor], outputs: [Tensor], backward: @escaping Node.Backward
  ) -> [Tensor] {
    guard inputs.contains(where: \.isTracked) else { return outputs }
    let node = Node(name, inputs: inputs.map(\.origin), outputCount: outputs.count, backward: backward)
    return outputs.enumerated().map { index, output in
      var tracked = output
      if output.dtype.isFloatingPoint { tracked.origin = Origin(node: node, output: index) }
      return tracked
    }
  }

  /// For an operation of one output; the closure is asked only when its gradient exists.
  package static func record(
    _ name: String, _ inputs: [Tensor], output: Tensor, backward: @escaping @Sendable (Tensor) throws -> [Tensor?]
  ) -> Tensor {
    record(name, inputs, outputs: [output]) { gradients in
      guard let gradient = gradients[0] else { return [] }
      return try backward(gradient)
    }[0]
  }
}

/// Gradients by the tensor they belong to.
public struct Gradients: Sendable {
  var byNode: [ObjectIdentifier: [Tensor?]] = [:]
  /// Nodes are kept alive so that identifiers stay theirs.
  var nodes: [Node] = []

  /// The gradient for a tracked leaf; nil when it had no influence or was not tracked.
  public subscript(_ tensor: Tensor) -> Tensor? {
    guard let origin = tensor.origin else { return nil }
    return byNode[ObjectIdentifier(origin.node)]?[origin.output]
  }
}

/// Gradients of sum_i <output_i, seed_i> with respect to every leaf behind the outputs.
///
/// A nil seed stands for ones (the output must then have one element). Seeding several outputs at once is what exact
/// piecewise training needs: the gradient of a piece's loss together with that of its final state.
public func gradients(of outputs: [(output: Tensor, seed: Tensor?)]) throws -> Gradients {
  var pending: [ObjectIdentifier: [Tensor?]] = [:]
  var roots: [Node] = []
  for (output, seed) in outputs {
    guard let origin = output.origin else { continue }
    let gradient = try seed ?? defaultSeed(output)
    try require(
      gradient.shape == output.shape && gradient.dtype == output.dtype, "gradients(of:)",
      expected: "a seed like the output, \(output)", got: "\(gradient)")
    try accumulate(gradient.detached, at: origin, in: &pending)
    roots.append(origin.node)
  }
  var result = Gradients()
  for node in reachable(from: roots) {
    guard let outputGradients = pending.removeValue(forKey: ObjectIdentifier(node)) else { continue }
    guard let backward = node.backward else {
      result.byNode[ObjectIdentifier(node)] = outputGradients
      result.nodes.append(node)
      continue
    }
    let inputGradients = try backward(outputGradients)
    for (origin, gradient) in zip(node.inputs, inputGradients) {
      if let origin, let gradient { try accumulate(gradient, at: origin, in: &pending) }
    }
  }
  return result
}

public func gradients(of loss: Tensor) throws -> Gradients { try gradients(of: [(loss, nil)]) }

private func defaultSeed(_ output: Tensor) throws -> Tensor {
  try require(
    output.count == 1, "gradients(of:)", expected: "an output of one element, or a seed", got: "shape \(output.shape)")
  return try Tensor.ones(output.shape, output.dtype)
}

private func accumulate(_ gradient: Tensor, at origin: Origin, in pending: inout [ObjectIdentifier: [Tensor?]]) throws {
  let key = ObjectIdentifier(origin.node)
  var slots = pending[key] ?? [Tensor?](repeating: nil, count: origin.node.outputCount)
  slots[origin.output] = try slots[origin.output].map { try $0 + gradient } ?? gradient
  pending[key] = slots
}

/// Every node behind the roots, newest first: an operation always comes before what it was made from.
private func reachable(from roots: [Node]) -> [Node] {
  var seen = Set<ObjectIdentifier>()
  var found: [Node] = []
  var stack = roots
  while let node = stack.popLast() {
    guard seen.insert(ObjectIdentifier(node)).inserted else { continue }
    found.append(node)
    for case .some(let origin) in node.inputs { stack.append(origin.node) }
  }
  return found.sorted { $0.id > $1.id }
}
