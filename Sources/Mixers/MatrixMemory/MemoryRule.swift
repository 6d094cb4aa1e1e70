import FermataLayers
import FermataTensors

/// How tokens write into a matrix memory: what becomes of projected queries, keys and values, what decays, and whether the delta
/// rule corrects what is there. A mixer has one rule; a mixture of memories has one for each memory.
public protocol MemoryRule: Module {
  /// Columns that the rule wants of the input projection beside queries, keys and values.
  var columns: Int { get }
  /// Whether keys depend on where their tokens stand.
  var readsPositions: Bool { get }

  /// Makes of projected queries, keys and values what the memory takes, and sets gates and rates.
  /// x (batch, length, width) are the inputs, `columns` (batch, length, columns) what was projected for the rule, `positions`
  /// (batch, length) where tokens stand, given to rules that read them.
  func complete(_ tokens: inout MatrixTokens, x: Tensor, columns: Tensor, positions: Tensor?) throws
}

extension MemoryRule {
  public var columns: Int { 0 }
  public var readsPositions: Bool { false }
}

/// A memory and how to make rules that write into it, each with parameters of its own.
public struct MemoryKind: Sendable {
  let memory: MatrixMemory
  let makeRule: @Sendable (inout RandomSource) throws -> any MemoryRule
}
