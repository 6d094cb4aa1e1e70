import CFermataKernels
import FermataTensors

/// Dropout (Srivastava et al. 2014) of one training step: its rate and the seed of its draws.
///
/// A draw depends on seed, layer, row, absolute position and feature alone, so cutting a sequence into pieces, or running a
/// piece again for its gradient, draws the same.
public struct Dropout: Sendable, Equatable {
  public var rate: Float
  public var seed: UInt64

  public init(rate: Float, seed: UInt64) throws {
    try require(rate >= 0 && rate < 1, "dropout", expected: "a rate of at least 0 and below 1", got: "\(rate)")
    self.rate = rate
    self.seed = seed
  }

  /// Drops features of x (batch, length, width), whose first token stands at `position`. `stream` tells apart the places of a
  /// model where it is used.
  public func callAsFunction(_ x: Tensor, stream: Int, position: Int) throws -> Tensor {
    if rate == 0 { return x }
    try require(
      x.rank == 3 && x.dtype.isFloatingPoint && stream >= 0 && position >= 0, "dropout",
      expected: "floating x (batch, length, width)", got: "\(x)")
    return Tensor.record("dropout", [x], output: try apply(x, stream, position)) { [try apply($0, stream, position)] }
  }

  private func apply(_ x: Tensor, _ stream: Int, _ position: Int) throws -> Tensor {
    let source = try x.detached.contiguous()
    let result = try Tensor(uninitialized: x.shape, x.dtype)
    fm_dropout(
      x.kernelType, source.pointer, result.pointer, Int64(x.shape[0]), Int64(x.shape[1]), Int64(x.shape[2]), rate, seed,
      UInt64(stream), Int64(position))
    Work.add(flops: x.count, bytes: 2 * x.byteCount)
    withExtendedLifetime(source) {}
    return result
  }
}
