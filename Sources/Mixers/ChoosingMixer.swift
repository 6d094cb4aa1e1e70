import FermataTensors

/// A mixer that makes discrete choices, such as which memory a token goes to.
///
/// Two runs that differ by rounding may choose otherwise where two scores are all but equal. So what is compared, or differentiated
/// numerically, runs with recorded choices.
public protocol ChoosingMixer: Mixer {
  /// What the mixer chooses for a piece, i32.
  func choices(_ piece: Piece) throws -> Tensor

  /// The same mixer, bound to choices recorded for a piece of the same batch and length; nil: free again.
  func choosing(_ choices: Tensor?) -> Self
}
