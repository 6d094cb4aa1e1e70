// Recurrences whose step needs the hidden state before it, given the input's projections x_t = W x + b.
//
//   s_t = R h_{t-1} + recurrent bias      R is block-diagonal: each head of width / heads units reads that head alone
//   (h_t, other states) = cell(x_t, s_t, states before)
//
// Only the cell differs (support/recurrence_cells.h). sigma is the logistic function, tanh acts on each unit.
//
//   LSTM (Hochreiter & Schmidhuber 1997; Gers et al. 2000), gates i, f, g, o of u = x + s, states h, c:
//     c_t = sigma(f) c_{t-1} + sigma(i) tanh(g),  h_t = sigma(o) tanh(c_t)
//   GRU (Cho et al. 2014; the reset gate after the product, as in cuDNN and PyTorch), gates r, z, n, state h:
//     r = sigma(x_r + s_r), z = sigma(x_z + s_z), n = tanh(x_n + r s_n),  h_t = (1 - z) n + z h_{t-1}
//   sLSTM (Beck et al. 2024), gates i, f, z, o of u = x + s: the cell and the normaliser
//     C_t = sigma(f) C_{t-1} + e^i tanh(z),  N_t = sigma(f) N_{t-1} + e^i,  h_t = sigma(o) C_t / N_t
//     would overflow, so the states are h, the average C / N and the logarithm of N, with the paper's stabiliser
//     m_t = max(i, log sigma(f) + log N_{t-1}) inside the step. Empty: average 0, log N = -infinity.
#ifndef FERMATA_RECURRENCE_H
#define FERMATA_RECURRENCE_H
#include "fermata_runtime.h"

typedef enum { FM_LSTM = 0, FM_GRU = 1, FM_SLSTM = 2 } fm_cell;

/// Vectors of `width` that a step keeps for the backward, whatever the cell.
#define FM_RECURRENCE_KEPT 5

typedef struct {
  fm_cell cell;
  fm_type type;
  int64_t batch, length, width, heads;
  const uint8_t *resets;  // (batch, length) or NULL: states are emptied before that token
  const uint8_t *valid;   // (batch, length) or NULL: where it is 0 states stay as they are and the output is h
} fm_recurrence_shape;

/// Blocks of `width` in projections and states of a cell, the hidden state included.
int fm_recurrence_gates(fm_cell cell);
int fm_recurrence_states(fm_cell cell);

/// projections (batch, length, gates, width) of `type`, contiguous; recurrent (gates, width, width / heads) of `type`;
/// bias (gates, width) f32 or NULL; initial and final: one (batch, width) f32 for each state, hidden first.
/// output (batch, length, width) of `type`; kept (batch, length, FM_RECURRENCE_KEPT, width) f32 for the backward, or NULL.
/// Returns 0, or -1 without scratch memory.
int fm_recurrence(const fm_recurrence_shape *shape, const void *projections, const void *recurrent, const float *bias,
                  const float *const *initial, void *output, float *const *final, float *kept);
/// doutput and each dfinal may be NULL (zeros). dprojections (batch, length, gates, width) of `type`; dsums likewise is the
/// gradient of s_t, or NULL where the cell only reads x_t + s_t (LSTM, sLSTM) and it is the same.
/// The gradients of `recurrent` and `bias` are products and sums that the caller takes from dsums and the hidden states.
int fm_recurrence_backward(const fm_recurrence_shape *shape, const void *recurrent, const float *kept, const void *doutput,
                           const float *const *dfinal, void *dprojections, void *dsums, float *const *dinitial);
#endif
