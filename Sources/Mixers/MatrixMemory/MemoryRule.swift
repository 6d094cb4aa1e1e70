import FermataLayers
import FermataTensors

/// How tokens write into a matrix memory: what becomes of projected queries, keys and values, what decays, and whether the delta
/// rule corrects what is there. A mixer has one rule; a mixture of memories has one for each memory.
public protocol MemoryRule: Module {
  /// Columns that the rule wants of the input projection beside queries, keys and values.
  var columns: Int { get }
  /// Whether it sets rates.
  var isDelta: Bool { get }

  /// Makes of projected queries, keys and values what the memory takes, and sets gates and rates.
  /// x (batch, length, width) are the inputs, `columns` (batch, length, columns) what was projected for the rule.
  func complete(_ tokens: inout MatrixTokens, x: Tensor, columns: Tensor) throws
}
