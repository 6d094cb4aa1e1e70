// Mamba's selective scan.
//
// A task is a row of the batch and a block of channels. It walks the tokens in chunks of FM_SELECTIVE_CHUNK: inside a chunk one
// vector of channels goes through all tokens with its states beside it, so that no sum crosses lanes. The exponentials are most
// of the work; they are powers of two, because a is multiplied by log2(e) beforehand.
//
// The forward keeps the state before each chunk. The backward takes segments of chunks, last first: each chunk is run again from
// its state, keeping states and decays of its tokens, and then walked backwards. The gradients of b and c are sums over channels:
// each block of channels leaves its part for the segment, and the parts are added in order.
#include "fermata_selective_scan.h"
#include "support/selective_scan_task.h"

#ifdef FM_VARIANT
#include "support/scan_tile.h"
#include "support/vector_math.h"
#include "support/selective_scan_tile.h"
#include "support/selective_scan_forward.h"
#include "support/selective_scan_backward.h"
#else
#include <stdlib.h>
#include <string.h>

#define FM_FILE "../selective_scan.c"
#include "support/each_variant.h"

typedef struct {
  selective_task task;
  float *parts, *threads;
  int64_t blocks, thread_floats;
} selective_call;

static inline int64_t selective_blocks(const fm_selective_scan_shape *s) {
  return (s->channels + SELECTIVE_BLOCK - 1) / SELECTIVE_BLOCK;
}

/// Gives a task the parts of a thread's scratch and returns their floats; whole cache lines, and lanes for every path.
static int64_t selective_share(selective_task *t, const fm_selective_scan_shape *s, int backward, float *at) {
  int64_t block = SELECTIVE_BLOCK * s->states, rows = FM_SELECTIVE_CHUNK * s->states;
  int64_t padded = (s->states + 15) & ~(int64_t)15, run = FM_SELECTIVE_CHUNK * s->states * 16;
  struct { float **part; int64_t floats; } parts[] = {
      {&t->a, block}, {&t->state, block}, {&t->b_rows, rows}, {&t->c_rows, rows},
      {&t->dstate, block}, {&t->da, block}, {&t->db_rows, FM_SELECTIVE_CHUNK * padded}, {&t->dc_rows, FM_SELECTIVE_CHUNK * padded},
      {&t->run_states, run + s->states * 16}, {&t->run_decays, run}, {&t->run_outputs, FM_SELECTIVE_CHUNK * 16}};
  int64_t floats = 0;
  for (int i = 0; i < (backward ? 11 : 4); i++) {
    *parts[i].part = at ? at + floats : NULL;
    floats += parts[i].floats;
  }
  t->states_padded = padded;
  return floats;
}

/// Threads that can have work: what more of them would need is not taken.
static int64_t selective_threads(const fm_selective_scan_shape *s) {
  int64_t tasks = s->batch * selective_blocks(s), threads = fm_threads();
  return tasks < threads ? (tasks > 0 ? tasks : 1) : threads;
}

int64_t fm_selective_scan_scratch(const fm_selective_scan_shape *s) {
  selective_task task;
  return selective_share(&task, s, 0, NULL) * selective_threads(s);
}
static int64_t selective_sums(const fm_selective_scan_shape *s) {
  return (s->batch * (s->states + 2) * s->channels + 15) & ~(int64_t)15;
}
static int64_t selective_parts(const fm_selective_scan_shape *s) {
  int64_t segment = s->length < SELECTIVE_SEGMENT ? s->length : SELECTIVE_SEGMENT;
  return (selective_blocks(s) * s->batch * segment * 2 * s->states + 15) & ~(int64_t)15;
}
int64_t fm_selective_scan_backward_scratch(const fm_selective_scan_shape *s) {
  selective_task task;
  return selective_sums(s) + selective_parts(s) + selective_share(&task, s, 1, NULL) * selective_threads(s);
}

/// The task of an index, in a thread's share of the scratch.
static selective_task selective_prepare(const selective_call *call, int64_t index, int backward) {
  selective_task t = call->task;
  int64_t left;
  t.b = index / call->blocks;
  t.first = index % call->blocks * SELECTIVE_BLOCK;
  left = t.shape->channels - t.first;
  t.channels = left < SELECTIVE_BLOCK ? left : SELECTIVE_BLOCK;
  selective_share(&t, t.shape, backward, call->threads + fm_thread_index() * call->thread_floats);
  return t;
}
static void selective_forward(void *context, int64_t index) {
  selective_task t = selective_prepare(context, index, 0);
  FM_CALL(selective_forward)(&t);
}
static int64_t selective_part_step(const selective_task *t) {
  return (t->segment_last - t->segment_first) * 2 * t->shape->states;
}
static void selective_backward(void *context, int64_t index) {
  const selective_call *call = context;
  selective_task t = selective_prepare(call, index, 1);
  t.parts = call->parts + index * selective_part_step(&t);
  FM_CALL(selective_backward)(&t);
}
static void selective_sum(void *context, int64_t index) {
  const selective_call *call = context;
  selective_task t = call->task;
  int64_t step = selective_part_step(&t), pieces = SELECTIVE_SEGMENT / FM_SELECTIVE_CHUNK;
  t.b = index / pieces;
  t.parts = call->parts + t.b * call->blocks * step;
  int64_t first = t.segment_first + index % pieces * FM_SELECTIVE_CHUNK, last = first + FM_SELECTIVE_CHUNK;
  if (last > t.segment_last) last = t.segment_last;
  FM_CALL(selective_sum_parts)(&t, call->blocks, step, first, last);
}

/// Waking the pool costs more than a few tens of thousands of operations.
static void selective_each(int64_t tasks, int64_t work, void (*body)(void *, int64_t), selective_call *call) {
  if (work < 16384)
    for (int64_t i = 0; i < tasks; i++) body(call, i);
  else
    fm_parallel_dynamic(tasks, body, call);
}

static void selective_copy_states(const fm_selective_scan_shape *s, const float *from, float *to) {
  size_t bytes = sizeof(float) * (size_t)(s->batch * s->states * s->channels);
  if (from) memcpy(to, from, bytes);
  else memset(to, 0, bytes);
}

void fm_selective_scan(const fm_selective_scan_shape *s, const float *initial_state, void *output, float *final_state,
                       float *chunk_states, float *scratch) {
  if (s->length <= 0) return selective_copy_states(s, initial_state, final_state);
  selective_call call = {.task = {.shape = s, .initial_state = initial_state, .output = output, .final_state = final_state,
                                  .chunk_states = chunk_states}, .threads = scratch, .blocks = selective_blocks(s)};
  call.thread_floats = selective_share(&call.task, s, 0, NULL);
  selective_each(s->batch * call.blocks, s->batch * s->length * s->channels * s->states, selective_forward, &call);
}

void fm_selective_scan_backward(const fm_selective_scan_shape *s, const float *chunk_states, const void *doutput,
                                const float *dfinal_state, const fm_selective_scan_gradients *gradients, float *scratch) {
  selective_copy_states(s, dfinal_state, gradients->dinitial_state);
  selective_call call = {.task = {.shape = s, .kept_states = chunk_states, .doutput = doutput, .gradients = gradients,
                                  .sums = scratch}, .parts = scratch + selective_sums(s), .blocks = selective_blocks(s)};
  call.threads = call.parts + selective_parts(s);
  call.thread_floats = selective_share(&call.task, s, 1, NULL);
  memset(call.task.sums, 0, sizeof(float) * (size_t)selective_sums(s));
  for (int64_t last = s->length; last > 0; last = call.task.segment_first) {
    call.task.segment_last = last;
    call.task.segment_first = (last - 1) / SELECTIVE_SEGMENT * SELECTIVE_SEGMENT;
    int64_t work = s->batch * (last - call.task.segment_first) * s->channels * s->states;
    selective_each(s->batch * call.blocks, work, selective_backward, &call);
    selective_each(s->batch * (SELECTIVE_SEGMENT / FM_SELECTIVE_CHUNK), work / 32, selective_sum, &call);
  }
  // Rows of the batch in order.
  float *sums[] = {gradients->da, gradients->dskip, gradients->dstep_bias};
  int64_t sizes[] = {s->states * s->channels, s->channels, s->channels}, at = 0;
  for (int i = 0; i < 3; at += sizes[i++])
    for (int64_t x = 0; x < sizes[i]; x++) {
      float sum = 0;
      for (int64_t b = 0; b < s->batch; b++) sum += call.task.sums[b * (s->states + 2) * s->channels + at + x];
      sums[i][x] = sum;
    }
}
#endif
