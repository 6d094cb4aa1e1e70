// LSTM's recurrence over a piece, given the input's projections (Hochreiter & Schmidhuber 1997; Gers et al. 2000).
//
//   (i, f, g, o) = x_t + h_{t-1} R^T       four blocks of `width` in PyTorch's order; x_t holds W x + b
//   c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);  h_t = sigmoid(o) tanh(c_t)
#ifndef FERMATA_LSTM_H
#define FERMATA_LSTM_H
#include "fermata_runtime.h"

/// projections (batch, length, 4 width) of `type`, contiguous; recurrent (4 width, width) of `type`;
/// initial_hidden, initial_cell (batch, width) f32; resets u8 (batch, length) or NULL: h and c are zeroed before that token.
/// output (batch, length, width) of `type`; final_hidden, final_cell (batch, width) f32.
/// gates (batch, length, 4 width) f32 and cells (batch, length, width) f32 receive the activated gates and the cells for the backward; both NULL otherwise.
int fm_lstm(fm_type type, const void *projections, const void *recurrent, const float *initial_hidden,
            const float *initial_cell, const uint8_t *resets, void *output, float *final_hidden, float *final_cell,
            float *gates, float *cells, int64_t batch, int64_t length, int64_t width);
/// dprojections (batch, length, 4 width) of `type`; dinitial_* (batch, width) f32. doutput may be NULL, dfinal_* may be NULL (zeros).
/// The gradient of `recurrent` is a layer-sized product that the caller takes from dprojections and the hidden states.
int fm_lstm_backward(fm_type type, const void *recurrent, const float *initial_cell, const uint8_t *resets,
                     const float *gates, const float *cells, const void *doutput, const float *dfinal_hidden,
                     const float *dfinal_cell, void *dprojections, float *dinitial_hidden, float *dinitial_cell,
                     int64_t batch, int64_t length, int64_t width);
#endif
