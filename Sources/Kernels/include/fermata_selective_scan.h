// Mamba's selective scan (Gu & Dao 2023): a diagonal state per channel whose step, input and read-out depend on the token.
//
//   d_t = softplus(step_t + step_bias)                                   per channel
//   h_t = exp(d_t a) h_{t-1} + d_t x_t b_t                               h is (states) per channel, f32
//   y_t = h_t . c_t + skip x_t,    output_t = y_t silu(gate_t)
//
// b and c are shared by all channels. a <= 0, so decays are at most 1.
#ifndef FERMATA_SELECTIVE_SCAN_H
#define FERMATA_SELECTIVE_SCAN_H
#include "fermata_runtime.h"

/// Positions between the states that the forward keeps for the backward.
#define FM_SELECTIVE_CHUNK 64

typedef struct {
  fm_type type;  // of x, step, b, c, gate, output and their gradients; everything else is f32
  int64_t batch, length, channels, states;
  const void *x, *step, *b, *c;  // (batch, length, channels) or (batch, length, states)
  const void *gate;              // (batch, length, channels) or NULL: output_t = y_t
  /// Strides in elements of (batch, position); last axes are contiguous.
  int64_t x_stride[2], step_stride[2], b_stride[2], c_stride[2], gate_stride[2];
  const float *a;                 // (states, channels)
  const float *skip, *step_bias;  // (channels)
  /// u8 (batch, length) or NULL: 1 at the first token of a document, where the state is zeroed before the update; 0 for
  /// padding, which changes no state and whose outputs and gradients are zeros.
  const uint8_t *resets, *valid;
} fm_selective_scan_shape;

/// Floats of scratch that the forward and the backward need. Beside some hundred kilobytes a thread it is, backward only,
/// batch x channels x (states + 2) and what one segment of 256 positions needs; it does not grow with the length.
int64_t fm_selective_scan_scratch(const fm_selective_scan_shape *shape);
int64_t fm_selective_scan_backward_scratch(const fm_selective_scan_shape *shape);

/// States are (batch, states, channels); initial_state may be NULL (zeros), final_state may not alias it. output is contiguous.
/// chunk_states, when not NULL, receives the state before each chunk (batch, chunks, states, channels).
void fm_selective_scan(const fm_selective_scan_shape *shape, const float *initial_state, void *output, float *final_state,
                       float *chunk_states, float *scratch);

/// Gradients of everything the forward reads; all are contiguous and overwritten. da is (states, channels), dinitial_state
/// (batch, states, channels); dgate is NULL without a gate.
typedef struct {
  void *dx, *dstep, *db, *dc, *dgate;
  float *da, *dskip, *dstep_bias, *dinitial_state;
} fm_selective_scan_gradients;

/// doutput is contiguous and may be NULL (zeros), dfinal_state too. chunk_states as the forward wrote them.
void fm_selective_scan_backward(const fm_selective_scan_shape *shape, const float *chunk_states, const void *doutput,
                                const float *dfinal_state, const fm_selective_scan_gradients *gradients, float *scratch);
#endif
