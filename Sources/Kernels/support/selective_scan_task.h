// One block of channels of one row: what a task of the selective scan works on. Same on every processor path.
#ifndef FERMATA_SELECTIVE_SCAN_TASK_H
#define FERMATA_SELECTIVE_SCAN_TASK_H
#include "fermata_selective_scan.h"


/// Channels that go together: enough to share the rows of b and c, few enough to spread over threads. Not a matter of threads,
/// so that sums over channels are always taken in the same order.
#define SELECTIVE_BLOCK 64
/// Positions whose parts of db and dc wait to be added.
#define SELECTIVE_SEGMENT 256

typedef struct {
  const fm_selective_scan_shape *shape;
  const float *initial_state, *kept_states;
  const void *doutput;
  void *output;
  float *final_state, *chunk_states;
  const fm_selective_scan_gradients *gradients;
  int64_t b, first, channels;           // the row of the batch and the block of channels
  int64_t segment_first, segment_last;  // positions
  int64_t states_padded;
  float *sums;   // (batch, states + 2, channels): each row's part of da, dskip and dstep_bias
  float *parts;  // (segment, 2, states): this block's and row's part of db and dc
  // Scratch of the thread. Blocks are (vector, state, lane), rows (position, states).
  float *a, *state, *dstate, *da, *b_rows, *c_rows, *db_rows, *dc_rows;
  float *run_states, *run_decays, *run_outputs;  // one vector of channels through one chunk
} selective_task;

static inline int selective_resets(const selective_task *t, int64_t i) {
  return t->shape->resets && t->shape->resets[t->b * t->shape->length + i];
}
static inline int selective_valid(const selective_task *t, int64_t i) {
  return !t->shape->valid || t->shape->valid[t->b * t->shape->length + i];
}
static inline int64_t selective_chunk_of(int64_t i) { return i / FM_SELECTIVE_CHUNK; }
static inline int64_t selective_chunks(const fm_selective_scan_shape *s) {
  return (s->length + FM_SELECTIVE_CHUNK - 1) / FM_SELECTIVE_CHUNK;
}
static inline int64_t selective_end(const fm_selective_scan_shape *s, int64_t end) { return end < s->length ? end : s->length; }
#endif
