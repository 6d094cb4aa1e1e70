// Recurrences in FlashRNN's manner (Poeppel et al. 2024): per step one small product with the recurrent matrix, which is
// packed once a call and stays in the cache over all steps, then the cell on the sums while they are in registers.
//
// Heads and rows of the batch are independent. A thread takes whole heads, or rows of one, through all steps; with fewer of
// them than threads and much work a step, the blocks of units are split instead, step by step. Results are the same in all.
#include "fermata_recurrence.h"
#include "support/recurrence_call.h"
#include <math.h>

#ifdef FM_VARIANT
#include "support/vector_math.h"
#include "support/scan_tile.h"
#include "support/recurrence_cells.h"
#include "support/recurrence_tiles.h"
#include "support/recurrence_forward.h"
#include "support/recurrence_backward.h"
#else
#include <string.h>

/// Heads from this width take pairs of bf16 where the processor multiplies them.
#define RECURRENCE_PAIRS_WIDTH 128
/// Work per step, in multiplications, from which waking the pool every step pays when there are too few heads and rows.
#define RECURRENCE_WORK_PER_STEP (1 << 18)
/// Pieces up to this length read the recurrent matrix as it lies.
#define RECURRENCE_DIRECT_STEPS 6

#define FM_FILE "../recurrence.c"
#include "support/each_variant.h"

int fm_recurrence_gates(fm_cell cell) { return recurrence_sizes[cell].gates; }
int fm_recurrence_states(fm_cell cell) { return recurrence_sizes[cell].states; }

/// Carves the scratch memory and plans the split between threads. Returns 0, or -1 without memory.
static int recurrence_start(recurrence_call *call, const fm_recurrence_shape *shape) {
  call->cell = shape->cell, call->type = shape->type;
  call->gates = recurrence_sizes[shape->cell].gates, call->states = recurrence_sizes[shape->cell].states;
  call->batch = shape->batch, call->length = shape->length > 0 ? shape->length : 0;
  call->width = shape->width, call->heads = shape->heads, call->head_width = shape->width / shape->heads;
  call->resets = shape->resets, call->valid = shape->valid;
  call->padded = scan_round_up(call->head_width), call->row = call->heads * call->padded;
  call->inner = scan_round_up(call->gates * call->head_width);
  size_t columns = (size_t)((call->head_width + 63) & ~(int64_t)63);
  size_t weights = (size_t)(call->heads * call->gates * (call->head_width + 1)) * columns + 256;
  size_t rows = (size_t)(call->batch * call->row);
  call->bytes = sizeof(float) * (weights + (5 + RECURRENCE_GATES + 2) * rows);
  call->packed = fm_map_memory(call->bytes);  // zeros
  if (!call->packed) return -1;
  float *next = call->packed + weights;
  float **parts[] = {&call->hidden[0], &call->hidden[1], &call->others[0], &call->others[1], &call->rounded};
  for (int i = 0; i < 5; i++, next += rows) *parts[i] = next;
  call->sums = next;
  call->halves[0] = (uint16_t *)(next + RECURRENCE_GATES * rows);
  call->halves[1] = call->halves[0] + rows;
  int64_t work = call->gates * call->batch * call->width * call->head_width, shares = call->heads * call->batch;
  call->by_units = (call->direct || shares < fm_threads()) && work >= RECURRENCE_WORK_PER_STEP;
  call->pieces = call->by_units || shares >= fm_threads() ? fm_threads() : shares;
  return 0;
}

/// Copies heads of (batch, width) to rows of scratch memory, and back.
static void recurrence_spread(const recurrence_call *call, const float *from, float *to) {
  for (int64_t i = 0; from && i < call->batch * call->heads; i++)
    memcpy(to + i * call->padded, from + i * call->head_width, sizeof(float) * (size_t)call->head_width);
}
static void recurrence_gather(const recurrence_call *call, const float *from, float *to) {
  for (int64_t i = 0; i < call->batch * call->heads; i++)
    memcpy(to + i * call->head_width, from + i * call->padded, sizeof(float) * (size_t)call->head_width);
}

int fm_recurrence(const fm_recurrence_shape *shape, const void *projections, const void *recurrent, const float *bias,
                  const float *const *initial, void *output, float *const *final, float *kept) {
  if (shape->batch <= 0 || shape->width <= 0) return 0;
  recurrence_call call = {.projections = projections, .recurrent = recurrent, .bias = bias, .output = output, .kept = kept,
                          .direct = shape->length <= RECURRENCE_DIRECT_STEPS};
  if (recurrence_start(&call, shape)) return -1;
  recurrence_spread(&call, initial[0], call.hidden[0]);
  for (int s = 1; s < call.states; s++) recurrence_spread(&call, initial[s], call.others[s - 1]);
  if (call.length > 0) FM_CALL(recurrence_forward)(&call);
  recurrence_gather(&call, call.hidden[call.length & 1], final[0]);
  for (int s = 1; s < call.states; s++) recurrence_gather(&call, call.others[s - 1], final[s]);
  fm_unmap_memory(call.packed, call.bytes);
  return 0;
}

int fm_recurrence_backward(const fm_recurrence_shape *shape, const void *recurrent, const float *kept, const void *doutput,
                           const float *const *dfinal, void *dprojections, void *dsums, float *const *dinitial) {
  if (shape->batch <= 0 || shape->width <= 0) return 0;
  recurrence_call call = {.recurrent = recurrent, .kept = (float *)kept, .doutput = doutput, .dprojections = dprojections,
                          .dsums = dsums};
  if (recurrence_start(&call, shape)) return -1;
  recurrence_spread(&call, dfinal[0], call.hidden[0]);
  for (int s = 1; s < call.states; s++) recurrence_spread(&call, dfinal[s], call.others[s - 1]);
  if (call.length > 0) FM_CALL(recurrence_backward)(&call);
  recurrence_gather(&call, call.hidden[0], dinitial[0]);
  for (int s = 1; s < call.states; s++) recurrence_gather(&call, call.others[s - 1], dinitial[s]);
  fm_unmap_memory(call.packed, call.bytes);
  return 0;
}
#endif
