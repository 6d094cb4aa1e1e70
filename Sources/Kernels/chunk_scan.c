// Gated scans whose decay is one number a head and token, in chunks of 64 positions (the state-space duality of Dao & Gu 2024):
// what a chunk's tokens do to each other is attention without a softmax, what came before goes through the state. Products
// are attention's (support/attention_product.h). Heads that share queries and keys, as Mamba-2's do, compute their scores once.
#include "support/chunk_scan.h"
#include "support/chunk_scan_task.h"

#ifdef FM_VARIANT
#include "support/scan_tile.h"
#include "support/attention_product.h"
#include "support/attention_pack.h"
#include "support/attention_softmax.h"
#include "support/chunk_scan_tile.h"
#include "support/chunk_scan_forward.h"
#include "support/chunk_scan_pairs.h"
#include "support/chunk_scan_backward.h"

// One body for each way of multiplying.
#if AT_PAIRS
#define CHUNK_PAIRS(body) if (t->half) { FM(body)(t, 1, FM_BF16, scratch); return; }
#else
#define CHUNK_PAIRS(body)
#endif
#define CHUNK_BODY(name, body)                                         \
  static void FM(name)(const chunk_task *t, float *scratch) {          \
    CHUNK_PAIRS(body)                                                  \
    if (t->shape->type == FM_BF16) FM(body)(t, 0, FM_BF16, scratch);   \
    else FM(body)(t, 0, FM_F32, scratch);                              \
  }
CHUNK_BODY(chunk_forward, chunk_forward_body)
CHUNK_BODY(chunk_backward, chunk_backward_body)
#undef CHUNK_BODY
#undef CHUNK_PAIRS

static int64_t FM(chunk_scratch)(const chunk_task *t, int backward) {
  FM(chunk_forward_scratch) forward;
  FM(chunk_backward_scratch) back;
  return backward ? FM(chunk_backward_floats)(t, NULL, &back) : FM(chunk_forward_floats)(t, NULL, &forward);
}

#else
#include <stdlib.h>
#include <string.h>

#define FM_FILE "../chunk_scan.c"
#include "support/each_variant.h"

typedef struct {
  chunk_task task;
  void (*run)(const chunk_task *, float *);
  float *scratch;
  int64_t scratch_floats;  // a thread
} chunk_call;

static void chunk_run(void *context, int64_t index) {
  const chunk_call *call = context;
  chunk_task t = call->task;
  const fm_gated_scan_shape *s = t.shape;
  t.first_value = index % t.column_blocks * t.column_block;
  t.values = at_clamp(s->value_width - t.first_value, 0, t.column_block);
  index /= t.column_blocks;
  t.block = index % t.blocks;
  index /= t.blocks;
  t.key_head = index % s->key_heads;
  t.b = index / s->key_heads;
  t.first_head = t.key_head * t.group + t.block * t.block_heads;
  t.heads = at_clamp(t.group - t.block * t.block_heads, 0, t.block_heads);
  call->run(&t, call->scratch + (int64_t)fm_thread_index() * call->scratch_floats);
  if (t.half && t.tile_unit) t.tile_unit->release();
}

/// Divides the work by shape alone, but for columns of the state, which do not know of each other.
static void chunk_plan(chunk_task *t, int backward) {
  const fm_gated_scan_shape *s = t->shape;
  t->tile_unit = s->type == FM_BF16 ? fm_tiles_in_use() : NULL;
  t->half = s->type == FM_BF16 && (t->tile_unit || fm_variant() == FM_AVX512_BF16);
  t->key_padded = (s->key_width + 15) / 16 * 16;
  int64_t pairs = s->batch * s->key_heads, size = t->key_padded * ((s->value_width + 15) / 16 * 16);
  t->group = s->heads / s->key_heads;
  t->block_heads = at_clamp(t->group * pairs / CHUNK_TASKS, 1, t->group);
  t->block_heads = at_clamp(CHUNK_STATES / size, 1, t->block_heads);
  if (backward) {
    // Each block keeps its own f32 gradients of queries and keys: very long pieces get fewer blocks.
    int64_t parts = 2 * s->batch * s->length * s->key_heads * s->key_width;
    int64_t most = at_clamp(AT_PARTS / (parts > 0 ? parts : 1), 1, t->group);
    t->block_heads = at_clamp(t->block_heads, (t->group + most - 1) / most, t->group);
  }
  t->blocks = (t->group + t->block_heads - 1) / t->block_heads;
  int64_t tasks = pairs * t->blocks, wanted = !backward && tasks < fm_threads() ? (fm_threads() + tasks - 1) / tasks : 1;
  t->column_block = ((s->value_width + wanted - 1) / wanted + 15) / 16 * 16;
  t->column_blocks = (s->value_width + t->column_block - 1) / t->column_block;
  t->value_padded = t->column_block;
  t->key_units = t->half ? (s->key_width + 1) / 2 : s->key_width;
  t->value_units = t->half ? (s->value_width + 1) / 2 : s->value_width;
  t->key_pitch = (t->key_units + 15) / 16 * 16;
  t->value_pitch = (t->value_units + 15) / 16 * 16;
}

static int chunk_start(chunk_call *call, int backward) {
  const chunk_task *t = &call->task;
  const fm_gated_scan_shape *s = t->shape;
  // Between threads a line of the cache more.
  call->scratch_floats = FM_CALL(chunk_scratch)(t, backward) + 16;
  call->scratch = at_allocate(call->scratch_floats * fm_threads());
  if (!call->scratch) return -1;
  int64_t tasks = s->batch * s->key_heads * t->blocks * t->column_blocks;
  // Waking the pool costs more than a few tens of thousands of operations.
  if (s->batch * s->heads * s->key_width * s->value_width * s->length < 32768)
    for (int64_t i = 0; i < tasks; i++) chunk_run(call, i);
  else
    fm_parallel_dynamic(tasks, chunk_run, call);
  free(call->scratch);
  return 0;
}

int chunk_scan_forward(const fm_gated_scan_shape *shape, const fm_gated_scan_inputs *inputs, void *output, float *final_state,
                       float *chunk_states) {
  chunk_call call = {.task = {.shape = shape, .in = *inputs, .output = output, .final_state = final_state,
                              .chunk_states = chunk_states}, .run = FM_CALL(chunk_forward)};
  chunk_plan(&call.task, 0);
  return chunk_start(&call, 0);
}

static void chunk_sum(void *context, int64_t index) { FM_CALL(chunk_sum_parts)(context, index); }

int chunk_scan_backward(const fm_gated_scan_shape *shape, const fm_gated_scan_inputs *inputs, const float *chunk_states,
                        const void *doutput, const float *dfinal_state, const fm_gated_scan_gradients *gradients) {
  chunk_call call = {.task = {.shape = shape, .in = *inputs, .kept_states = chunk_states, .dfinal_state = dfinal_state,
                              .doutput = doutput, .out = *gradients}, .run = FM_CALL(chunk_backward)};
  chunk_task *t = &call.task;
  chunk_plan(t, 1);
  int64_t rows = shape->batch * shape->length * shape->key_heads;
  float *parts = NULL;
  if (t->blocks > 1) {
    int64_t floats = t->blocks * rows * shape->key_width;
    parts = at_allocate(2 * floats);
    if (!parts) return -1;
    t->dquery_parts = parts;
    t->dkey_parts = parts + floats;
  }
  int failed = chunk_start(&call, 1);
  if (!failed && parts) fm_parallel(rows, chunk_sum, t);
  free(parts);
  return failed;
}
#endif
