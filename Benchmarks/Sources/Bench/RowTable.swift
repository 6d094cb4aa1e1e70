import Fermata

/// Every row of the table, in its order.
enum RowTable {
  /// - Parameter command: the `fermata` executable whose start is measured.
  static func rows(command: String) -> [any Row] {
    [TransformerTraining(dtype: .bfloat16), TransformerTraining(dtype: .float32)]
      + [DType.bfloat16, .float32].flatMap { dtype in
        [1024, 2048, 4096, 8192].map { AttentionGradient(length: $0, dtype: dtype) }
      }
      + RowOperation.all.flatMap { [IntoExistingMemory(operation: $0), AsCalled(operation: $0)] as [any Row] }
      + [
        StateSpaceTraining(kind: .mamba2, dtype: .float32), StateSpaceTraining(kind: .mamba2, dtype: .bfloat16),
        StateSpaceTraining(kind: .mamba, dtype: .float32), StateSpaceTraining(kind: .mamba, dtype: .bfloat16),
        StateSpacePrefill(), LSTMGradient(), LengthFlatness.linear, LengthFlatness.windowed, HeadMemory(),
        VersionStart(command: command), FirstTokenStart(command: command),
      ]
  }
}
