// What a block of channels of a diagonal-plus-low-rank scan works on. Same on every processor path.
#ifndef FERMATA_LOW_RANK_TASK_H
#define FERMATA_LOW_RANK_TASK_H
#include "fermata_low_rank_scan.h"

/// A mode's numbers, real and imaginary each.
enum {
  LOW_RANK_DECAY = 0, LOW_RANK_CORRECTION = 2, LOW_RANK_INPUT = 4, LOW_RANK_PROBE = 6, LOW_RANK_READOUT = 8, LOW_RANK_SLOTS = 10,
};

typedef struct {
  const fm_low_rank_system *system, *gradient;
  const void *input, *doutput;
  const float *initial_state, *kept_states, *dfinal_state;
  void *output, *dinput;
  float *final_state, *chunk_states, *dinitial_state;
} low_rank_arrays;

/// What the backward of a block works on.
typedef struct {
  float *system, *gradient, *carry, *states, *g, *sigma, *later, *input, *doutput, *dinput, *skip, *dskip, *h;
} low_rank_work;

#endif
