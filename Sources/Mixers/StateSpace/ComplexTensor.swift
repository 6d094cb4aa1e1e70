import FermataTensors

/// Complex numbers as two real f32 tensors, for the small parameters of state spaces. Shapes broadcast as those of tensors.
package struct ComplexTensor: Sendable {
  package var real: Tensor
  package var imaginary: Tensor

  package init(real: Tensor, imaginary: Tensor) {
    self.real = real
    self.imaginary = imaginary
  }

  /// From pairs (…, 2), as PyTorch's `view_as_real` stores them.
  package init(pairs: Tensor) throws {
    let wide = try pairs.cast(to: .float32)
    real = try wide.select(0, axis: -1)
    imaginary = try wide.select(1, axis: -1)
  }

  /// Real plane, then imaginary: (2, …).
  package func planes() throws -> Tensor {
    try Tensor.concatenated([real.expanded(at: 0), imaginary.expanded(at: 0)], axis: 0)
  }

  package func transposed(_ a: Int, _ b: Int) throws -> ComplexTensor {
    ComplexTensor(real: try real.transposed(a, b), imaginary: try imaginary.transposed(a, b))
  }

  package static func + (a: ComplexTensor, b: ComplexTensor) throws -> ComplexTensor {
    ComplexTensor(real: try a.real + b.real, imaginary: try a.imaginary + b.imaginary)
  }
  package static func + (a: ComplexTensor, b: Float) throws -> ComplexTensor {
    ComplexTensor(real: try a.real + b, imaginary: a.imaginary)
  }
  package static func * (a: ComplexTensor, b: ComplexTensor) throws -> ComplexTensor {
    ComplexTensor(
      real: try a.real * b.real - a.imaginary * b.imaginary, imaginary: try a.real * b.imaginary + a.imaginary * b.real)
  }
  package static func * (a: ComplexTensor, b: Tensor) throws -> ComplexTensor {
    ComplexTensor(real: try a.real * b, imaginary: try a.imaginary * b)
  }
  package static func * (a: ComplexTensor, b: Float) throws -> ComplexTensor {
    ComplexTensor(real: try a.real * b, imaginary: try a.imaginary * b)
  }

  /// 1 / z
  package func reciprocal() throws -> ComplexTensor {
    let size = try real * real + imaginary * imaginary
    return ComplexTensor(real: try real / size, imaginary: try -imaginary / size)
  }

  /// e^z
  package func exponential() throws -> ComplexTensor {
    let size = try real.exp()
    return ComplexTensor(real: try size * imaginary.cosine(), imaginary: try size * imaginary.sine())
  }

  /// e^z − 1 without the cancellation near zero: with z = x + iy, (e^x − 1) cos y − 2 sin²(y/2) + i e^x sin y, where
  /// e^x − 1 = tanh(x/2) (e^x + 1).
  package func exponentialMinusOne() throws -> ComplexTensor {
    let size = try real.exp()
    let half = try (imaginary * 0.5).sine()
    let excess = try (real * 0.5).tanh() * (size + 1)
    return ComplexTensor(
      real: try excess * imaginary.cosine() - half * half * 2, imaginary: try size * imaginary.sine())
  }
}
