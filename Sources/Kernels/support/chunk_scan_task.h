// What a task of a scan in chunks is: some heads that share their queries and keys. Same on every processor path.
#ifndef FERMATA_CHUNK_SCAN_TASK_H
#define FERMATA_CHUNK_SCAN_TASK_H
#include "fermata_gated_scan.h"
#include "support/attention_plan.h"

enum {
  CHUNK = FM_SCAN_CHUNK,
  CHUNK_BLOCK = 32,        // rows of a chunk's triangle that are multiplied at once, up to their last column
  CHUNK_TASKS = 8,         // heads that share keys are divided until there are so many tasks
  CHUNK_STATES = 1 << 16,  // floats of states that a task should not exceed: they stay in the second cache
};
_Static_assert(CHUNK == AT_TILE, "packed tiles are attention's");

typedef struct {
  const fm_gated_scan_shape *shape;
  fm_gated_scan_inputs in;
  void *output;
  float *final_state, *chunk_states;
  // Backward.
  const float *kept_states, *dfinal_state;
  const void *doutput;
  fm_gated_scan_gradients out;
  float *dquery_parts, *dkey_parts;  // f32 (blocks, batch, length, key_heads, key_width), when the heads of one key are divided
  int half;                   // whether bf16 is multiplied in pairs
  const fm_tiles *tile_unit;  // what multiplies them, where the path has tile instructions
  int64_t group, block_heads, blocks;     // heads that share a key; those of a task; tasks to a group
  int64_t column_block, column_blocks;    // of the state, in the forward
  int64_t key_units, value_units;         // a row's width in units (see attention_product.h) ...
  int64_t key_pitch, value_pitch;         // ... and in packed rows
  int64_t key_padded, value_padded;
  // One task's share.
  int64_t b, key_head, block, first_head, heads, first_value, values;
} chunk_task;

static inline int64_t chunk_count(const fm_gated_scan_shape *s) { return (s->length + CHUNK - 1) / CHUNK; }
static inline int64_t chunk_rows(const fm_gated_scan_shape *s, int64_t chunk) { return at_clamp(s->length - chunk * CHUNK, 0, CHUNK); }

/// Where a head's columns stand in a (batch, heads, key_width, value_width) state, and in the states kept for a chunk.
static inline int64_t chunk_state_at(const chunk_task *t, int64_t head) {
  const fm_gated_scan_shape *s = t->shape;
  return (t->b * s->heads + head) * s->key_width * s->value_width + t->first_value;
}
static inline int64_t chunk_kept_at(const chunk_task *t, int64_t chunk, int64_t head) {
  const fm_gated_scan_shape *s = t->shape;
  return ((t->b * chunk_count(s) + chunk) * s->heads + head) * s->key_width * s->value_width + t->first_value;
}

/// The first element of a position's row in a contiguous (batch, length, heads, width) tensor.
static inline int64_t chunk_row_at(const chunk_task *t, int64_t position, int64_t heads, int64_t head, int64_t width) {
  return ((t->b * t->shape->length + position) * heads + head) * width;
}

/// The next part of a thread's scratch; without a base only counts.
static inline float *chunk_take(float *base, int64_t *used, int64_t floats) {
  float *part = base ? base + *used : NULL;
  *used += (floats + 15) & ~(int64_t)15;
  return part;
}
#endif
