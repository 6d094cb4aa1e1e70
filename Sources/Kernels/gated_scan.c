// The matrix-state recurrence in tiles of 16 positions: entry points, and how the work is shared among threads. One decay a
// head without rates goes to chunk_scan.c.
// support/gated_scan_tile.h has the equations of a tile; gated_scan_forward.h and gated_scan_backward.h go through a piece.
#include "fermata_gated_scan.h"
#include "support/chunk_scan.h"
#include "support/gated_scan_task.h"

#ifdef FM_VARIANT
#include "support/scan_tile.h"
#include "support/gated_scan_tile.h"
#include "support/gated_scan_forward.h"
#include "support/gated_scan_backward.h"
#else
#include <stdlib.h>
#include <string.h>

#define FM_FILE "../gated_scan.c"
#include "support/each_variant.h"

typedef struct {
  gated_scan_task task;
  void (*run)(const gated_scan_task *, float *);
  float *scratch;
  size_t scratch_floats;  // a thread
  int64_t blocks, block_width;
} gated_scan_call;

static void gated_scan_run(void *context, int64_t index) {
  gated_scan_call *call = context;
  gated_scan_task task = call->task;
  int64_t block = index % call->blocks, head = index / call->blocks;
  task.b = head / task.shape->heads;
  task.h = head % task.shape->heads;
  task.first_value = block * call->block_width;
  task.values = task.shape->value_width - task.first_value;
  if (task.values > call->block_width) task.values = call->block_width;
  task.value_padded = scan_round_up(task.values);
  call->run(&task, call->scratch + (size_t)fm_thread_index() * call->scratch_floats);
}

static int gated_scan_start(gated_scan_call *call, int64_t floats, int64_t work) {
  int64_t tasks = call->task.shape->batch * call->task.shape->heads * call->blocks;
  // Whole cache lines a thread, one more between threads.
  call->scratch_floats = (size_t)((floats + 15) & ~(int64_t)15) + 16;
  call->scratch = aligned_alloc(64, sizeof(float) * call->scratch_floats * (size_t)fm_threads());
  if (!call->scratch) return -1;
  // Waking the pool costs more than a few tens of thousands of operations.
  if (work < 32768) {
    for (int64_t i = 0; i < tasks; i++) gated_scan_run(call, i);
  } else {
    fm_parallel_dynamic(tasks, gated_scan_run, call);
  }
  free(call->scratch);
  return 0;
}

static void gated_scan_pass(const float *from, float *to, int64_t floats) {
  if (from) memcpy(to, from, sizeof(float) * (size_t)floats);
  else memset(to, 0, sizeof(float) * (size_t)floats);
}

static int gated_scan_in_chunks(const fm_gated_scan_shape *shape, const fm_gated_scan_inputs *inputs) {
  return !shape->vector_gate && !inputs->rate;
}

int fm_gated_scan(const fm_gated_scan_shape *shape, const fm_gated_scan_inputs *inputs, void *output, float *final_state,
                  float *chunk_states) {
  int64_t heads = shape->batch * shape->heads, state = shape->key_width * shape->value_width;
  if (heads <= 0 || state <= 0) return 0;
  if (shape->length <= 0) {
    gated_scan_pass(inputs->initial_state, final_state, heads * state);
    return 0;
  }
  if (gated_scan_in_chunks(shape, inputs) && shape->length > GATED_SCAN_STEPS)
    return chunk_scan_forward(shape, inputs, output, final_state, chunk_states);
  int64_t kp = scan_round_up(shape->key_width);
  gated_scan_call call = {.task = {.shape = shape, .in = *inputs, .output = output, .final_state = final_state,
                                   .chunk_states = chunk_states, .ahead = GATED_SCAN_TILE, .key_padded = kp}};
  // Columns of the state are independent; they are split when there are fewer heads than threads.
  int64_t wanted = heads >= fm_threads() ? 1 : (fm_threads() + heads - 1) / heads;
  call.block_width = scan_round_up((shape->value_width + wanted - 1) / wanted);
  call.blocks = (shape->value_width + call.block_width - 1) / call.block_width;
  int steps = shape->length <= GATED_SCAN_STEPS;
  call.run = steps ? FM_CALL(scan_steps) : FM_CALL(scan_forward);
  int64_t floats = steps ? FM_CALL(scan_step_floats)(kp) : FM_CALL(scan_forward_floats)(kp, call.block_width);
  return gated_scan_start(&call, floats, heads * state * shape->length);
}

int fm_gated_scan_backward(const fm_gated_scan_shape *shape, const fm_gated_scan_inputs *inputs, const float *chunk_states,
                           const void *doutput, const float *dfinal_state, const fm_gated_scan_gradients *gradients) {
  int64_t heads = shape->batch * shape->heads, state = shape->key_width * shape->value_width;
  if (heads <= 0 || state <= 0) return 0;
  if (shape->length <= 0) {
    if (gradients->initial_state) gated_scan_pass(dfinal_state, gradients->initial_state, heads * state);
    return 0;
  }
  // One chunk's state is the initial state; more must have been kept.
  if (!chunk_states && shape->length > FM_SCAN_CHUNK) return -1;
  if (gated_scan_in_chunks(shape, inputs))
    return chunk_scan_backward(shape, inputs, chunk_states, doutput, dfinal_state, gradients);
  int64_t kp = scan_round_up(shape->key_width), vp = scan_round_up(shape->value_width);
  gated_scan_call call = {.task = {.shape = shape, .in = *inputs, .kept_states = chunk_states, .doutput = doutput,
                                   .dfinal_state = dfinal_state, .out = *gradients, .ahead = -FM_SCAN_CHUNK, .key_padded = kp},
                          .run = FM_CALL(scan_backward), .blocks = 1, .block_width = vp};
  return gated_scan_start(&call, FM_CALL(scan_backward_floats)(kp, vp), 2 * heads * state * shape->length);
}
#endif
