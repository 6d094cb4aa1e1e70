import CFermataKernels
import FermataLayers
import FermataTensors

/// Features whose product is the exponential's Taylor series to second order (Arora et al. 2024):
/// φ(q) · φ(k) = 1 + s + s²/2 with s = q · k / √width.
///
/// x (…, width) to (…, 1 + width + width (width + 1) / 2): one, the features over width^¼, and the products of each two, of which
/// equal ones stand there once.
public func taylorFeatures(_ x: Tensor) throws -> Tensor {
  guard let width = x.shape.last, (1...Int(FM_TAYLOR_WIDEST)).contains(width), x.dtype.isFloatingPoint else {
    throw TensorError(
      "taylorFeatures", expected: "floating x (…, width), width in 1...\(FM_TAYLOR_WIDEST)", got: "\(x)")
  }
  let source = try x.detached.contiguous()
  let rows = Int64(x.count / width)
  let result = try Tensor(uninitialized: x.shape.dropLast() + [taylorWidth(width)], x.dtype)
  fm_taylor(x.kernelType, source.pointer, result.pointer, rows, Int64(width))
  Work.add(flops: result.count, bytes: x.byteCount + result.byteCount)
  return Tensor.record("taylorFeatures", [x], output: result) { gradient in
    let dfeatures = try gradient.contiguous()
    let dx = try Tensor(uninitialized: source.shape, source.dtype)
    fm_taylor_backward(source.kernelType, source.pointer, dfeatures.pointer, dx.pointer, rows, Int64(width))
    Work.add(flops: 4 * dfeatures.count, bytes: 2 * source.byteCount + dfeatures.byteCount)
    withExtendedLifetime((source, dfeatures)) {}
    return [dx]
  }
}

/// How many features a width has.
func taylorWidth(_ width: Int) -> Int { 1 + width + width * (width + 1) / 2 }

/// The same in simple operations: the oracle of the fused form.
package func taylorFeaturesReference(_ x: Tensor) throws -> Tensor {
  let width = x.shape[x.rank - 1]
  let y = try x.cast(to: .float32) * (1 / Float(width).squareRoot().squareRoot())
  let one = try Tensor.ones(x.shape.dropLast() + [1])
  let products = try (0..<width).flatMap { i in
    try (i..<width).map { j in
      let product = try y.slice(i..<i + 1, axis: -1) * y.slice(j..<j + 1, axis: -1)
      return i == j ? try product * Float(0.5).squareRoot() : product
    }
  }
  return try Tensor.concatenated([one, y] + products, axis: x.rank - 1).cast(to: x.dtype)
}
