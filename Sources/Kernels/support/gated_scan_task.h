// One head's share of a gated scan, and how its sequence falls into tiles. Same on every processor path.
#ifndef FERMATA_GATED_SCAN_TASK_H
#define FERMATA_GATED_SCAN_TASK_H
#include "fermata_gated_scan.h"

/// Positions in a tile: SCAN_ROWS.
#define GATED_SCAN_TILE 16
/// Non-empty states that the tiles of one chunk can start from: the chunk's own and one after each full tile.
#define GATED_SCAN_STATES 4
/// Pieces up to this length go through the plain recurrence.
#define GATED_SCAN_STEPS 8

typedef struct {
  const fm_gated_scan_shape *shape;
  fm_gated_scan_inputs in;
  void *output;
  float *final_state, *chunk_states;
  // Backward.
  const float *kept_states, *dfinal_state;
  const void *doutput;
  fm_gated_scan_gradients out;
  int64_t b, h, first_value, values;  // the head and the block of value columns
  int64_t key_padded, value_padded;
  int64_t ahead;  // positions between what is read and what is fetched into the cache for later
} gated_scan_task;

static inline int gated_scan_resets(const gated_scan_task *task, int64_t t) {
  return task->shape->resets && task->shape->resets[task->b * task->shape->length + t];
}

/// Positions in the tile that starts at `start`: a document's first token starts a new one, and none crosses a chunk's end.
static inline int64_t gated_scan_rows(const gated_scan_task *task, int64_t start) {
  int64_t end = (start / FM_SCAN_CHUNK + 1) * FM_SCAN_CHUNK, rows = 1;
  if (end > task->shape->length) end = task->shape->length;
  while (rows < GATED_SCAN_TILE && start + rows < end && !gated_scan_resets(task, start + rows)) rows++;
  return rows;
}

static inline int64_t gated_scan_chunks(const fm_gated_scan_shape *s) { return (s->length + FM_SCAN_CHUNK - 1) / FM_SCAN_CHUNK; }

/// The element of (batch, position, head) in a strided operand.
static inline int64_t gated_scan_at(const gated_scan_task *task, const int64_t *stride, int64_t t) {
  return task->b * stride[0] + t * stride[1] + task->h * stride[2];
}

/// The same of queries and keys, which heads may share.
static inline int64_t gated_scan_key_at(const gated_scan_task *task, const int64_t *stride, int64_t t) {
  return task->b * stride[0] + t * stride[1] + task->h * task->shape->key_heads / task->shape->heads * stride[2];
}

/// Where this head's block of columns stands in a (batch, heads, key_width, value_width) state, and in the states kept for a chunk.
static inline int64_t gated_scan_state_at(const gated_scan_task *task) {
  const fm_gated_scan_shape *s = task->shape;
  return (task->b * s->heads + task->h) * s->key_width * s->value_width + task->first_value;
}
static inline int64_t gated_scan_chunk_state_at(const gated_scan_task *task, int64_t chunk) {
  const fm_gated_scan_shape *s = task->shape;
  return ((task->b * gated_scan_chunks(s) + chunk) * s->heads + task->h) * s->key_width * s->value_width + task->first_value;
}

/// The distance in elements to what will be read soon, 0 where that is outside the piece: a tile further in the forward, a
/// chunk back in the backward, which begins each chunk by going through all of it.
static inline int64_t gated_scan_ahead(const gated_scan_task *task, int64_t start, int64_t stride) {
  int64_t next = start + task->ahead;
  return next >= 0 && next + GATED_SCAN_TILE <= task->shape->length ? task->ahead * stride : 0;
}

/// Cuts one thread's scratch into aligned parts.
static inline float *gated_scan_take(float **scratch, int64_t floats) {
  float *part = *scratch;
  *scratch += (floats + 15) & ~(int64_t)15;
  return part;
}
#endif
