// Diagonal state spaces: modes that turn and decay by a constant complex factor a token.
//
//   x_t[n, c] = a[n, c] x_{t-1}[n, c] + u_t[c]                       a, x complex; state f32
//   one plane:   u real;  y_t[c] = sum_n Re(r[n, c] x_t[n, c]) + skip[c] u_t[c]     (S4D, Gu et al. 2022)
//   two planes:  u complex, one mode a channel;  y_t[c] = x_t[c]                    (S5, Smith et al. 2023)
//
// Complex numbers are two planes, real then imaginary, with channels innermost.
#ifndef FERMATA_DIAGONAL_SCAN_H
#define FERMATA_DIAGONAL_SCAN_H
#include "fermata_runtime.h"

typedef struct {
  fm_type type;  // of input, output and their gradients; everything else is f32
  int64_t batch, length, channels, modes;
  /// 1: real input and output; 2: complex, and modes is 1.
  int planes;
  /// Strides in elements of the input's (batch, position); planes and channels are contiguous.
  int64_t input_stride[2];
  /// u8 (batch, length): 1 where the state is zeroed before the token; 0 where a token changes no state and its output is 0.
  /// NULL: none are reset, all are valid.
  const uint8_t *resets, *valid;
} fm_diagonal_scan_shape;

/// input (batch, length, planes, channels); decay and readout (2, modes, channels); skip (channels); states
/// (batch, 2, modes, channels), the initial one NULL for zeros. output is contiguous in input's shape. readout and skip are
/// NULL with two planes. chunk_states, when not NULL, receives the state before each chunk of FM_DIAGONAL_CHUNK positions
/// (batch, chunks, 2, modes, channels), kept for the backward. Returns -1 without scratch memory.
#define FM_DIAGONAL_CHUNK 64
int fm_diagonal_scan(const fm_diagonal_scan_shape *shape, const void *input, const float *decay, const float *readout,
                     const float *skip, const float *initial_state, void *output, float *final_state,
                     float *chunk_states);

/// Gradients from doutput (contiguous; NULL: zeros) and dfinal_state (NULL: zeros). dinput is contiguous; ddecay and dreadout
/// (batch, 2, modes, channels) and dskip (batch, channels) are for each sequence apart, so that their sum over the batch has
/// one order; dinitial_state may be NULL. chunk_states as written by the forward.
int fm_diagonal_scan_backward(const fm_diagonal_scan_shape *shape, const void *input, const float *decay,
                              const float *readout, const float *skip, const float *chunk_states, const void *doutput,
                              const float *dfinal_state, void *dinput, float *ddecay, float *dreadout, float *dskip,
                              float *dinitial_state);
#endif
