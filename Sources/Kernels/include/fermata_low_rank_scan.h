// State spaces whose transition is diagonal minus a matrix of rank one (S4, Gu, Goel & Re 2022), a token at a time:
//
//   x_t = a x_{t-1} - w sigma_{t-1} + b u_t,   sigma_t = sum_n Re(s_n x_t[n]),   y_t = sum_n Re(r_n x_t[n]) + skip u_t
//
// for every channel apart; a, w, b, s, r and x complex, u and y real. Complex numbers are two planes, real then imaginary, with
// channels innermost. sigma is real because states stand for conjugate pairs.
#ifndef FERMATA_LOW_RANK_SCAN_H
#define FERMATA_LOW_RANK_SCAN_H
#include "fermata_diagonal_scan.h"

/// The system's arrays, or their gradients. (2, modes, channels) each, in gradients (batch, 2, modes, channels); skip
/// (channels), in gradients (batch, channels).
typedef struct {
  float *decay, *correction, *input, *probe, *readout, *skip;
} fm_low_rank_system;

/// Everything else is as in fm_diagonal_scan with one plane.
int fm_low_rank_scan(const fm_diagonal_scan_shape *shape, const fm_low_rank_system *system, const void *input,
                     const float *initial_state, void *output, float *final_state, float *chunk_states);

/// Everything else is as in fm_diagonal_scan_backward with one plane.
int fm_low_rank_scan_backward(const fm_diagonal_scan_shape *shape, const fm_low_rank_system *system, const void *input,
                              const float *chunk_states, const void *doutput, const float *dfinal_state, void *dinput,
                              const fm_low_rank_system *gradient, float *dinitial_state);
#endif
