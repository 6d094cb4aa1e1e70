// Gated norm over groups of features, forwards and backwards, a row at a time.
#include "fermata_gated_norm.h"

#ifdef FM_VARIANT
#include "support/scan_tile.h"
#include "support/silu.h"

/// A step for whole vectors of a group's features, for which n is a constant, and for the rest.
#define GATED_NORM_EACH(step, ...)                                                             \
  do {                                                                                         \
    int64_t i = begin;                                                                         \
    for (; i + FM_LANES <= end; i += FM_LANES) FM(step)(type, t, r, i, FM_LANES, __VA_ARGS__); \
    if (i < end) FM(step)(type, t, r, i, end - i, __VA_ARGS__);                                \
  } while (0)

/// Asks for a vector of the row GATED_NORM_AHEAD further on; past the end that is harmless.
FM_INLINE void FM(gated_norm_ask)(const fm_type type, const void *base, int64_t r, int64_t stride, int64_t i) {
  __builtin_prefetch((const char *)base + ((r + GATED_NORM_AHEAD) * stride + i) * (type == FM_F32 ? 4 : 2));
}

/// u, gate and its sigmoid for a vector of features of a row.
FM_INLINE vf FM(gated_norm_read)(const fm_type type, const gated_norm_task *t, int64_t r, int64_t i, int64_t n, vf *gate,
                                 vf *sigmoid) {
  const fm_gated_norm_shape *s = t->shape;
  FM(gated_norm_ask)(type, s->gate, r, s->gate_stride, i);
  FM(gated_norm_ask)(type, s->v, r, s->v_stride, i);
  FM(gated_norm_ask)(type, s->x, r, s->x_stride, i);
  *gate = FM(scan_read_n)(type, s->gate, r * s->gate_stride + i, n);
  *sigmoid = FM(silu_sigmoid)(*gate);
  vf v = FM(scan_read_n)(type, s->v, r * s->v_stride + i, n), skip = FM(scan_read_n)(FM_F32, t->skip, i, n);
  return FM(v_fma)(skip, v, FM(scan_read_n)(type, s->x, r * s->x_stride + i, n));
}

FM_INLINE void FM(gated_norm_gate)(const fm_type type, const gated_norm_task *t, int64_t r, int64_t i, int64_t n, vf *squares) {
  vf gate, sigmoid, u = FM(gated_norm_read)(type, t, r, i, n, &gate, &sigmoid), gated = u * gate * sigmoid;
  *squares = FM(v_fma)(gated, gated, *squares);
  FM(scan_write_n)(FM_F32, t->row, i, gated, n);
}
FM_INLINE void FM(gated_norm_scale)(const fm_type type, const gated_norm_task *t, int64_t r, int64_t i, int64_t n, vf inverse) {
  vf y = FM(scan_read_n)(FM_F32, t->row, i, n) * inverse * FM(scan_read_n)(FM_F32, t->shape->weight, i, n);
  FM(gated_norm_ask)(type, t->y, r, t->shape->width, i);
  FM(scan_write_n)(type, t->y, r * t->shape->width + i, y, n);
}

FM_INLINE void FM(gated_norm_forward_rows)(const fm_type type, const gated_norm_task *t) {
  const fm_gated_norm_shape *s = t->shape;
  int64_t width = s->width / s->groups;
  for (int64_t r = t->first; r < t->last; r++)
    for (int64_t g = 0; g < s->groups; g++) {
      int64_t begin = g * width, end = begin + width;
      vf squares = FM(v_set)(0);
      GATED_NORM_EACH(gated_norm_gate, &squares);
      float inverse = 1.0f / sqrtf(FM(v_sum)(squares) / (float)width + s->epsilon);
      t->inverse_rms[r * s->groups + g] = inverse;
      GATED_NORM_EACH(gated_norm_scale, FM(v_set)(inverse));
    }
}

/// The backward's first pass: the gradient of the weight, the sum of q h, and the sigmoids for the second.
FM_INLINE void FM(gated_norm_sums)(const fm_type type, const gated_norm_task *t, int64_t r, int64_t i, int64_t n, vf inverse,
                                   vf *product) {
  const fm_gated_norm_shape *s = t->shape;
  vf gate, sigmoid, u = FM(gated_norm_read)(type, t, r, i, n, &gate, &sigmoid), h = u * gate * sigmoid * inverse;
  FM(gated_norm_ask)(type, t->dy, r, s->width, i);
  vf dy = FM(scan_read_n)(type, t->dy, r * s->width + i, n);
  FM(scan_write_n)(FM_F32, t->dweight, i, FM(v_fma)(dy, h, FM(scan_read_n)(FM_F32, t->dweight, i, n)), n);
  *product = FM(v_fma)(dy * FM(scan_read_n)(FM_F32, s->weight, i, n), h, *product);
  FM(scan_write_n)(FM_F32, t->row, i, sigmoid, n);
}

FM_INLINE void FM(gated_norm_gradients)(const fm_type type, const gated_norm_task *t, int64_t r, int64_t i, int64_t n, vf inverse,
                                        vf mean) {
  const fm_gated_norm_shape *s = t->shape;
  const fm_gated_norm_gradients *gradients = t->gradients;
  int64_t at = r * s->width + i;
  vf one = FM(v_set)(1), gate = FM(scan_read_n)(type, s->gate, r * s->gate_stride + i, n);
  vf sigmoid = FM(scan_read_n)(FM_F32, t->row, i, n);
  vf v = FM(scan_read_n)(type, s->v, r * s->v_stride + i, n), skip = FM(scan_read_n)(FM_F32, t->skip, i, n);
  vf u = FM(v_fma)(skip, v, FM(scan_read_n)(type, s->x, r * s->x_stride + i, n)), silu = gate * sigmoid;
  vf q = FM(scan_read_n)(type, t->dy, at, n) * FM(scan_read_n)(FM_F32, s->weight, i, n);
  vf ds = inverse * (q - u * silu * inverse * mean), du = ds * silu;
  FM(gated_norm_ask)(type, gradients->dgate, r, s->width, i);
  FM(gated_norm_ask)(type, gradients->dx, r, s->width, i);
  FM(gated_norm_ask)(type, gradients->dv, r, s->width, i);
  FM(scan_write_n)(type, gradients->dgate, at, ds * u * sigmoid * FM(v_fma)(gate, one - sigmoid, one), n);
  FM(scan_write_n)(type, gradients->dx, at, du, n);
  FM(scan_write_n)(type, gradients->dv, at, du * skip, n);
  FM(scan_write_n)(FM_F32, t->dskip, i, FM(v_fma)(du, v, FM(scan_read_n)(FM_F32, t->dskip, i, n)), n);
}

/// With q = dy w and h = s / rms: ds = (q - h mean(q h)) / rms, du = ds silu(gate), dgate = ds u silu'(gate).
FM_INLINE void FM(gated_norm_backward_rows)(const fm_type type, const gated_norm_task *t) {
  const fm_gated_norm_shape *s = t->shape;
  int64_t width = s->width / s->groups;
  for (int64_t r = t->first; r < t->last; r++)
    for (int64_t g = 0; g < s->groups; g++) {
      int64_t begin = g * width, end = begin + width;
      vf inverse = FM(v_set)(t->inverse_rms[r * s->groups + g]), product = FM(v_set)(0);
      GATED_NORM_EACH(gated_norm_sums, inverse, &product);
      GATED_NORM_EACH(gated_norm_gradients, inverse, FM(v_set)(FM(v_sum)(product) / (float)width));
    }
}
#undef GATED_NORM_EACH

static void FM(gated_norm_rows)(const gated_norm_task *t) {
  if (t->dy) {
    if (t->shape->type == FM_F32) FM(gated_norm_backward_rows)(FM_F32, t);
    else FM(gated_norm_backward_rows)(FM_BF16, t);
  } else {
    if (t->shape->type == FM_F32) FM(gated_norm_forward_rows)(FM_F32, t);
    else FM(gated_norm_forward_rows)(FM_BF16, t);
  }
}

#else
#include <math.h>
#include <stdlib.h>
#include <string.h>

/// Rows are cut into at most so many parts; their sums for skip and weight are added in order, whatever the threads.
#define GATED_NORM_PARTS 32
/// How many rows ahead the next are fetched: rows are short and apart, which the processor does not foresee.
#define GATED_NORM_AHEAD 2

typedef struct {
  const fm_gated_norm_shape *shape;
  const void *dy;
  void *y;
  float *inverse_rms;
  const fm_gated_norm_gradients *gradients;
  int64_t first, last;               // rows
  float *skip;                       // (width): one for every feature
  float *row, *dweight, *dskip;      // (width) of scratch of this part
} gated_norm_task;

#define FM_FILE "../gated_norm.c"
#include "support/each_variant.h"

typedef struct {
  gated_norm_task task;
  int64_t rows;  // a part
  float *scratch;
} gated_norm_call;

static void gated_norm_part(void *context, int64_t index) {
  const gated_norm_call *call = context;
  gated_norm_task t = call->task;
  int64_t width = t.shape->width;
  t.first = index * call->rows;
  t.last = t.first + call->rows < t.shape->rows ? t.first + call->rows : t.shape->rows;
  t.row = call->scratch + (3 * index + 1) * width;
  t.dweight = t.row + width;
  t.dskip = t.dweight + width;
  if (t.dy) memset(t.dweight, 0, sizeof(float) * (size_t)(2 * width));
  FM_CALL(gated_norm_rows)(&t);
}

/// The sums of all parts, of each feature first and then of each head.
static void gated_norm_add_parts(const gated_norm_call *call, int64_t parts) {
  const fm_gated_norm_shape *s = call->task.shape;
  int64_t width = s->width, head = width / s->heads;
  float *dweight = call->scratch + 2 * width, *dskip = dweight + width;
  for (int64_t part = 1; part < parts; part++)
    for (int64_t i = 0; i < 2 * width; i++) dweight[i] += dweight[3 * part * width + i];
  for (int64_t i = 0; i < width; i++) call->task.gradients->dweight[i] = dweight[i];
  for (int64_t h = 0; h < s->heads; h++)
    for (int64_t i = h * head; i < (h + 1) * head; i++) call->task.gradients->dskip[h] += dskip[i];
}

static int gated_norm_run(gated_norm_call *call) {
  const fm_gated_norm_shape *s = call->task.shape;
  if (s->rows <= 0 || s->width <= 0) return 0;
  call->rows = (s->rows + GATED_NORM_PARTS - 1) / GATED_NORM_PARTS;
  int64_t parts = (s->rows + call->rows - 1) / call->rows;
  call->scratch = malloc(sizeof(float) * (size_t)((3 * parts + 1) * s->width));
  if (!call->scratch) return -1;
  call->task.skip = call->scratch;
  for (int64_t i = 0; i < s->width; i++) call->task.skip[i] = s->skip[i / (s->width / s->heads)];
  // Waking the pool costs more than a few tens of thousands of operations.
  if (s->rows * s->width < 8192)
    for (int64_t i = 0; i < parts; i++) gated_norm_part(call, i);
  else
    fm_parallel_dynamic(parts, gated_norm_part, call);
  if (call->task.dy) gated_norm_add_parts(call, parts);
  free(call->scratch);
  return 0;
}

int fm_gated_norm(const fm_gated_norm_shape *shape, void *y, float *inverse_rms) {
  gated_norm_call call = {.task = {.shape = shape, .y = y, .inverse_rms = inverse_rms}};
  return gated_norm_run(&call);
}

int fm_gated_norm_backward(const fm_gated_norm_shape *shape, const float *inverse_rms, const void *dy,
                           const fm_gated_norm_gradients *gradients) {
  gated_norm_call call = {.task = {.shape = shape, .dy = dy, .inverse_rms = (float *)inverse_rms, .gradients = gradients}};
  memset(gradients->dweight, 0, sizeof(float) * (size_t)shape->width);
  memset(gradients->dskip, 0, sizeof(float) * (size_t)shape->heads);
  return gated_norm_run(&call);
}
#endif
