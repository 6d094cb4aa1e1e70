// Short causal depthwise convolution.
//
// A task is a row of the batch and a block of channels. It walks the tokens in runs of CONVOLUTION_RUN: inside a run one vector of
// channels goes through all tokens with its weights and the last K inputs in registers; between runs they rest in the task's
// scratch. The backward walks forwards as well: a valid input's gradient is complete, and written, when K-1 valid inputs have
// followed it. Runs in which nothing but inputs need be looked at, nearly all of them, have a quicker way, where only the sums for
// weights and bias are taken in another order: support/short_convolution_plain.h.
#include "fermata_short_convolution.h"

#ifdef FM_VARIANT
#include "support/silu.h"
#include "support/short_convolution_plain.h"

FM_INLINE vf FM(convolution_read)(fm_type type, const void *base, int64_t i, int64_t n) {
  return n >= FM_LANES ? FM(v_read)(type, base, i) : FM(v_read_n)(type, base, i, n);
}
FM_INLINE void FM(convolution_write)(fm_type type, void *base, int64_t i, vf v, int64_t n) {
  if (n >= FM_LANES) FM(v_write)(type, base, i, v);
  else FM(v_write_n)(type, base, i, v, n);
}

/// One vector of channels through one run of tokens.
FM_INLINE void FM(convolution_run)(const int width, const fm_type type, const convolution_task *t, int64_t c, int64_t first,
                                   int64_t last) {
  const fm_convolution_shape *s = t->shape;
  int64_t n = t->first + t->channels - c, local = c - t->first, padded = t->padded;
  vf w[FM_CONVOLUTION_WIDEST], x[FM_CONVOLUTION_WIDEST], bias = FM(v_load)(t->bias + local);
  for (int k = 0; k < width; k++) w[k] = FM(v_load)(t->weight + k * padded + local);
  for (int k = 0; k < width - 1; k++) x[k] = FM(v_load)(t->history + k * padded + local);
  for (int64_t i = first; i < last; i++) {
    int64_t y_at = (t->b * s->length + i) * s->channels + c;
    if (convolution_resets(t, i))
      for (int k = 0; k < width - 1; k++) x[k] = FM(v_set)(0);
    if (!convolution_valid(t, i)) {
      FM(convolution_write)(type, t->y, y_at, FM(v_set)(0), n);
      continue;
    }
    x[width - 1] = FM(convolution_read)(type, t->x, t->b * s->x_stride[0] + i * s->x_stride[1] + c, n);
    vf z = bias;
    for (int k = 0; k < width; k++) z = FM(v_fma)(w[k], x[k], z);
    if (s->silu) z = z * FM(silu_sigmoid)(z);
    FM(convolution_write)(type, t->y, y_at, z, n);
    for (int k = 0; k < width - 1; k++) x[k] = x[k + 1];
  }
  for (int k = 0; k < width - 1; k++) FM(v_store)(t->history + k * padded + local, x[k]);
}

/// Writes a finished gradient to the input it belongs to: a token of the piece, a row of the tail, or none.
FM_INLINE void FM(convolution_deliver)(fm_type type, const convolution_task *t, int64_t source, int64_t c, vf gradient) {
  const fm_convolution_shape *s = t->shape;
  int64_t n = t->first + t->channels - c;
  if (source >= 0)
    FM(convolution_write)(type, t->dx, (t->b * s->length + source) * s->channels + c, gradient, n);
  else if (source != CONVOLUTION_NOWHERE)
    FM(convolution_write)(FM_F32, t->dtail, (t->b * (s->width - 1) + s->width - 1 + source) * s->channels + c, gradient, n);
}

/// The backward of one vector of channels through one run; `source` says where the last K-1 inputs stand and is moved on.
FM_INLINE void FM(convolution_run_backward)(const int width, const fm_type type, const convolution_task *t, int64_t c,
                                            int64_t first, int64_t last, int64_t *source) {
  const fm_convolution_shape *s = t->shape;
  int64_t n = t->first + t->channels - c, local = c - t->first, padded = t->padded;
  vf w[FM_CONVOLUTION_WIDEST], x[FM_CONVOLUTION_WIDEST], dx[FM_CONVOLUTION_WIDEST], dw[FM_CONVOLUTION_WIDEST];
  vf bias = FM(v_load)(t->bias + local), dbias = FM(v_set)(0), one = FM(v_set)(1), zero = FM(v_set)(0);
  for (int k = 0; k < width; k++) {
    w[k] = FM(v_load)(t->weight + k * padded + local);
    dw[k] = zero;
  }
  for (int k = 0; k < width - 1; k++) {
    x[k] = FM(v_load)(t->history + k * padded + local);
    dx[k] = FM(v_load)(t->dhistory + k * padded + local);
  }
  for (int64_t i = first; i < last; i++) {
    if (convolution_resets(t, i))
      for (int k = 0; k < width - 1; k++) {
        FM(convolution_deliver)(type, t, source[k], c, dx[k]);
        x[k] = dx[k] = zero;
        source[k] = CONVOLUTION_NOWHERE;
      }
    if (!convolution_valid(t, i)) {
      FM(convolution_deliver)(type, t, i, c, zero);
      continue;
    }
    x[width - 1] = FM(convolution_read)(type, t->x, t->b * s->x_stride[0] + i * s->x_stride[1] + c, n);
    dx[width - 1] = zero;
    source[width - 1] = i;
    vf dz = t->dy ? FM(convolution_read)(type, t->dy, (t->b * s->length + i) * s->channels + c, n) : zero;
    if (s->silu) {
      vf z = bias;
      for (int k = 0; k < width; k++) z = FM(v_fma)(w[k], x[k], z);
      vf sigmoid = FM(silu_sigmoid)(z);
      dz *= sigmoid * FM(v_fma)(z, one - sigmoid, one);
    }
    dbias += dz;
    for (int k = 0; k < width; k++) {
      dw[k] = FM(v_fma)(dz, x[k], dw[k]);
      dx[k] = FM(v_fma)(dz, w[k], dx[k]);
    }
    FM(convolution_deliver)(type, t, source[0], c, dx[0]);
    for (int k = 0; k < width - 1; k++) {
      x[k] = x[k + 1];
      dx[k] = dx[k + 1];
      source[k] = source[k + 1];
    }
  }
  for (int k = 0; k < width - 1; k++) {
    FM(v_store)(t->history + k * padded + local, x[k]);
    FM(v_store)(t->dhistory + k * padded + local, dx[k]);
  }
  // Sums of a run at a time, so that rounding does not pile up with the number of tokens.
  for (int k = 0; k < width; k++)
    FM(v_store)(t->dweight + k * padded + local, FM(v_load)(t->dweight + k * padded + local) + dw[k]);
  FM(v_store)(t->dbias + local, FM(v_load)(t->dbias + local) + dbias);
}

/// The tail's rows of this block, into `to` (K-1, padded).
static void FM(convolution_load_tail)(const convolution_task *t, const float *tail, float *to) {
  const fm_convolution_shape *s = t->shape;
  for (int64_t k = 0; k < s->width - 1; k++) {
    const float *row = tail ? tail + (t->b * (s->width - 1) + k) * s->channels + t->first : NULL;
    for (int64_t c = 0; c < t->padded; c++) to[k * t->padded + c] = row && c < t->channels ? row[c] : 0;
  }
}

#define CONVOLUTION_BY_WIDTH(call, ...)                                                      \
  do {                                                                                       \
    fm_type type = t->shape->type;                                                           \
    if (type == FM_F32 && t->shape->width == 4) FM(call)(4, FM_F32, t, __VA_ARGS__);         \
    else if (type == FM_BF16 && t->shape->width == 4) FM(call)(4, FM_BF16, t, __VA_ARGS__);  \
    else if (t->shape->width == 3) FM(call)(3, type, t, __VA_ARGS__);                        \
    else if (t->shape->width == 2) FM(call)(2, type, t, __VA_ARGS__);                        \
    else FM(call)((int)t->shape->width, type, t, __VA_ARGS__);                               \
  } while (0)

static void FM(convolution_forward)(const convolution_task *t) {
  const fm_convolution_shape *s = t->shape;
  FM(convolution_load_tail)(t, t->tail, t->history);
  for (int64_t first = 0, last; first < s->length; first = last) {
    int plain;
    last = convolution_run_end(t, first, &plain);
    int64_t c = plain ? FM(convolution_plain)(t, first, last) : t->first;
    for (; c < t->first + t->channels; c += FM_LANES) CONVOLUTION_BY_WIDTH(convolution_run, c, first, last);
  }
  for (int64_t k = 0; k < s->width - 1; k++)
    memcpy(t->final_tail + (t->b * (s->width - 1) + k) * s->channels + t->first, t->history + k * t->padded,
           sizeof(float) * (size_t)t->channels);
}

static void FM(convolution_backward)(const convolution_task *t) {
  const fm_convolution_shape *s = t->shape;
  int64_t source[FM_CONVOLUTION_WIDEST], after[FM_CONVOLUTION_WIDEST];
  FM(convolution_load_tail)(t, t->tail, t->history);
  memset(t->dhistory, 0, sizeof(float) * (size_t)((s->width - 1) * t->padded));
  for (int64_t k = 0; k < s->width - 1; k++) source[k] = k - (s->width - 1);
  // A tail's row that a document's start cuts off gets no gradient from what follows: every row is written by then.
  for (int64_t first = 0, last; first < s->length; first = last) {
    int plain;
    last = convolution_run_end(t, first, &plain);
    int64_t c = plain ? FM(convolution_plain)(t, first, last) : t->first;
    for (int64_t k = 0; plain && k < s->width - 1; k++) after[k] = last - (s->width - 1) + k;
    for (; c < t->first + t->channels; c += FM_LANES) {
      memcpy(after, source, sizeof source);
      CONVOLUTION_BY_WIDTH(convolution_run_backward, c, first, last, after);
    }
    memcpy(source, after, sizeof source);
  }
  // What is left over are the rows of the final tail.
  FM(convolution_load_tail)(t, t->dfinal_tail, t->history);
  for (int64_t k = 0; k < s->width - 1; k++)
    for (int64_t c = t->first; c < t->first + t->channels; c += FM_LANES) {
      int64_t at = k * t->padded + c - t->first;
      FM(convolution_deliver)(s->type, t, source[k], c, FM(v_load)(t->dhistory + at) + FM(v_load)(t->history + at));
    }
}
#undef CONVOLUTION_BY_WIDTH

#else
#include <stdlib.h>
#include <string.h>
#include "support/short_convolution_task.h"

#define FM_FILE "../short_convolution.c"
#include "support/each_variant.h"

typedef struct {
  convolution_task task;
  float *scratch, *dweight, *dbias;
  int64_t block, blocks;
  size_t scratch_floats;  // a thread
} convolution_call;

/// A task's scratch, with the block's weights transposed so that a vector of channels lies together.
static convolution_task convolution_prepare(const convolution_call *call, int64_t index) {
  convolution_task t = call->task;
  const fm_convolution_shape *s = t.shape;
  t.first = index * call->block;
  t.channels = s->channels - t.first < call->block ? s->channels - t.first : call->block;
  t.padded = call->block;
  float *at = call->scratch + (size_t)fm_thread_index() * call->scratch_floats;
  float **parts[] = {&t.weight, &t.dweight, &t.run_weight, &t.history, &t.dhistory, &t.bias, &t.dbias, &t.run_bias};
  for (int i = 0; i < 8; i++) {
    *parts[i] = at;
    at += i < 5 ? s->width * t.padded : t.padded;
  }
  memset(t.weight, 0, sizeof(float) * call->scratch_floats);
  for (int64_t c = 0; c < t.channels; c++) {
    t.bias[c] = s->bias ? s->bias[t.first + c] : 0;
    for (int64_t k = 0; k < s->width; k++) t.weight[k * t.padded + c] = s->weight[(t.first + c) * s->width + k];
  }
  return t;
}

static void convolution_forward(void *context, int64_t index) {
  const convolution_call *call = context;
  convolution_task t = convolution_prepare(call, index % call->blocks);
  t.b = index / call->blocks;
  FM_CALL(convolution_forward)(&t);
}

/// All rows of the batch, one after another: the gradients of the weights are sums over them.
static void convolution_backward(void *context, int64_t index) {
  const convolution_call *call = context;
  convolution_task t = convolution_prepare(call, index);
  for (t.b = 0; t.b < t.shape->batch; t.b++) FM_CALL(convolution_backward)(&t);
  for (int64_t c = 0; c < t.channels; c++) {
    if (call->dbias) call->dbias[t.first + c] = t.dbias[c];
    for (int64_t k = 0; k < t.shape->width; k++)
      call->dweight[(t.first + c) * t.shape->width + k] = t.dweight[k * t.padded + c];
  }
}

static int convolution_start(convolution_call *call, int backward) {
  const fm_convolution_shape *s = call->task.shape;
  // Blocks of at least 64 channels keep reads in whole cache lines; more of them than threads even out the work.
  int64_t wanted = 4 * (int64_t)fm_threads(), rows = backward ? 1 : s->batch;
  int64_t parts = rows >= wanted ? 1 : (wanted + rows - 1) / rows;
  int64_t block = ((s->channels + parts - 1) / parts + 63) & ~(int64_t)63;
  call->block = block;
  call->blocks = (s->channels + block - 1) / block;
  call->scratch_floats = (size_t)((5 * s->width + 3) * block);
  call->scratch = aligned_alloc(64, sizeof(float) * call->scratch_floats * (size_t)fm_threads());
  if (!call->scratch) return -1;
  int64_t tasks = rows * call->blocks;
  void (*body)(void *, int64_t) = backward ? convolution_backward : convolution_forward;
  // Waking the pool costs more than a few tens of thousands of operations.
  if (s->batch * s->length * s->channels < 8192)
    for (int64_t i = 0; i < tasks; i++) body(call, i);
  else
    fm_parallel_dynamic(tasks, body, call);
  free(call->scratch);
  return 0;
}

int fm_short_convolution(const fm_convolution_shape *shape, const void *x, const float *tail, void *y, float *final_tail) {
  if (shape->batch <= 0 || shape->channels <= 0) return 0;
  convolution_call call = {.task = {.shape = shape, .x = x, .tail = tail, .y = y, .final_tail = final_tail}};
  return convolution_start(&call, 0);
}

int fm_short_convolution_backward(const fm_convolution_shape *shape, const void *x, const float *tail, const void *dy,
                                  const float *dfinal_tail, void *dx, float *dtail, float *dweight, float *dbias) {
  if (shape->channels <= 0) return 0;
  convolution_call call = {.task = {.shape = shape, .x = x, .tail = tail, .dy = dy, .dfinal_tail = dfinal_tail, .dx = dx,
                                    .dtail = dtail}, .dweight = dweight, .dbias = dbias};
  return convolution_start(&call, 1);
}
#endif
