// What one call of a recurrence works on. Same on every processor path.
#ifndef FERMATA_RECURRENCE_CALL_H
#define FERMATA_RECURRENCE_CALL_H
#include "fermata_recurrence.h"
#include <stddef.h>

typedef struct {
  fm_cell cell;
  fm_type type;
  int gates, states;
  int64_t batch, length, width, heads, head_width;
  const uint8_t *resets, *valid;
  const void *projections, *recurrent, *doutput;
  const float *bias;
  void *output, *dprojections, *dsums;
  float *kept;  // written by the forward, read by the backward
  // Scratch rows: a head takes `padded` floats, a row of the batch `row`.
  int64_t padded, row;
  float *hidden[2];     // (batch, row): h of the even and the odd steps; backward, [0] is the gradient of h
  float *others[2];     // (batch, row): the other states, or their gradients
  float *rounded;       // (batch, row): h rounded to bf16, for products straight from the matrix
  const float *left;    // h as such a product reads it
  float *sums;          // (batch, heads, inner): backward, the gradients of one step's sums, all gates of a head in a row
  uint16_t *halves[2];  // bf16 copies for products of pairs: of `hidden`; backward, [0] is that of `sums`
  int64_t inner;
  // The packed recurrent matrix: blocks of units forward, panels of columns backward, `panel` floats each.
  float *packed;
  int64_t head_blocks, head_panels, panel;
  int64_t pieces, step;
  int by_units, direct;
  size_t bytes;  // of the memory at `packed`
} recurrence_call;

#endif
