// Causal depthwise convolution over a few positions, as gated linear recurrences put before their mixing.
//
//   z_tc = bias_c + sum_k weight_ck x_{t-K+1+k, c}        y = z, or silu(z)
//
// x before the piece is its tail: the last K-1 valid inputs, f32. A document's first token sees zeros before it. Padding is
// passed over: its outputs are zeros, its gradients too, and the tokens after it see the valid inputs before it.
#ifndef FERMATA_SHORT_CONVOLUTION_H
#define FERMATA_SHORT_CONVOLUTION_H
#include "fermata_runtime.h"

/// The widest kernel.
#define FM_CONVOLUTION_WIDEST 64

typedef struct {
  fm_type type;  // of x, y and their gradients; everything else is f32
  int64_t batch, length, channels, width;  // width: K, in 1...FM_CONVOLUTION_WIDEST
  /// Strides in elements of (batch, position) of x; its last axis is contiguous.
  int64_t x_stride[2];
  const float *weight;  // (channels, K)
  const float *bias;    // (channels) or NULL
  int silu;
  /// u8 (batch, length) or NULL: 1 at the first token of a document; 0 for padding.
  const uint8_t *resets, *valid;
} fm_convolution_shape;

/// tail (batch, K-1, channels) and final_tail likewise (may not alias); y contiguous (batch, length, channels).
/// Returns 0, or -1 when there is no memory for the scratch, which does not grow with the length.
int fm_short_convolution(const fm_convolution_shape *shape, const void *x, const float *tail, void *y, float *final_tail);

/// Gradients from dy (contiguous, may be NULL: zeros) and dfinal_tail (may be NULL: zeros); x and tail as in the forward.
/// dx is contiguous; dtail, dweight (channels, K) and dbias (channels; NULL without bias) are overwritten.
int fm_short_convolution_backward(const fm_convolution_shape *shape, const void *x, const float *tail, const void *dy,
                                  const float *dfinal_tail, void *dx, float *dtail, float *dweight, float *dbias);
#endif
