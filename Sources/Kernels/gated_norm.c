// Gated norm over groups of features, forwards and backwards, a row at a time.
#include "fermata_gated_norm.h"

#ifdef FM_VARIANT
#include "support/scan_tile.h"

/// u, gate and its sigmoid for a vector of features of a row.
FM_INLINE vf FM(gated_norm_read)(const fm_type type, const gated_norm_task *t, int64_t r, int64_t i, int64_t n, vf *gate, vf *sigmoid) {
  const fm_gated_norm_shape *s = t->shape;
  *gate = FM(scan_read_n)(type, s->gate, r * s->gate_stride + i, n);
  *sigmoid = FM(v_sigmoid)(*gate);
  vf v = FM(scan_read_n)(type, s->v, r * s->v_stride + i, n), skip = FM(scan_read_n)(FM_F32, t->skip, i, n);
  return FM(v_fma)(skip, v, FM(scan_read_n)(type, s->x, r * s->x_stride + i, n));
}

FM_INLINE void FM(gated_norm_forward_rows)(const fm_type type, const gated_norm_task *t) {
  const fm_gated_norm_shape *s = t->shape;
  int64_t width = s->width / s->groups;
  for (int64_t r = t->first; r < t->last; r++)
    for (int64_t g = 0; g < s->groups; g++) {
      int64_t begin = g * width, end = begin + width;
      vf squares = FM(v_set)(0), gate, sigmoid;
      for (int64_t i = begin; i < end; i += FM_LANES) {
        vf u = FM(gated_norm_read)(type, t, r, i, end - i, &gate, &sigmoid), gated = u * gate * sigmoid;
        squares = FM(v_fma)(gated, gated, squares);
        FM(scan_write_n)(FM_F32, t->row, i, gated, end - i);
      }
      float inverse = 1.0f / sqrtf(FM(v_sum)(squares) / (float)width + s->epsilon);
      t->inverse_rms[r * s->groups + g] = inverse;
      for (int64_t i = begin; i < end; i += FM_LANES) {
        vf y = FM(scan_read_n)(FM_F32, t->row, i, end - i) * FM(v_set)(inverse) * FM(scan_read_n)(FM_F32, s->weight, i, end - i);
        FM(scan_write_n)(type, t->y, r * s->width + i, y, end - i);
      }
    }
}

/// With q = dy w and h = s / rms: ds = (q - h mean(q h)) / rms, du = ds silu(gate), dgate = ds u silu'(gate).
FM_INLINE void FM(gated_norm_backward_rows)(const fm_type type, const gated_norm_task *t) {
  const fm_gated_norm_shape *s = t->shape;
  int64_t width = s->width / s->groups;
  vf one = FM(v_set)(1);
  for (int64_t r = t->first; r < t->last; r++)
    for (int64_t g = 0; g < s->groups; g++) {
      int64_t begin = g * width, end = begin + width;
      vf inverse = FM(v_set)(t->inverse_rms[r * s->groups + g]), product = FM(v_set)(0), gate, sigmoid;
      for (int64_t i = begin; i < end; i += FM_LANES) {
        int64_t n = end - i;
        vf u = FM(gated_norm_read)(type, t, r, i, n, &gate, &sigmoid), h = u * gate * sigmoid * inverse;
        vf dy = FM(scan_read_n)(type, t->dy, r * s->width + i, n);
        FM(scan_write_n)(FM_F32, t->dweight, i, FM(v_fma)(dy, h, FM(scan_read_n)(FM_F32, t->dweight, i, n)), n);
        product = FM(v_fma)(dy * FM(scan_read_n)(FM_F32, s->weight, i, n), h, product);
        FM(scan_write_n)(FM_F32, t->row, i, sigmoid, n);
      }
      vf mean = FM(v_set)(FM(v_sum)(product) / (float)width);
      for (int64_t i = begin; i < end; i += FM_LANES) {
        int64_t n = end - i, at = r * s->width + i;
        gate = FM(scan_read_n)(type, s->gate, r * s->gate_stride + i, n);
        sigmoid = FM(scan_read_n)(FM_F32, t->row, i, n);
        vf v = FM(scan_read_n)(type, s->v, r * s->v_stride + i, n), skip = FM(scan_read_n)(FM_F32, t->skip, i, n);
        vf u = FM(v_fma)(skip, v, FM(scan_read_n)(type, s->x, r * s->x_stride + i, n)), silu = gate * sigmoid;
        vf q = FM(scan_read_n)(type, t->dy, at, n) * FM(scan_read_n)(FM_F32, s->weight, i, n);
        vf ds = inverse * (q - u * silu * inverse * mean), du = ds * silu;
        FM(scan_write_n)(type, t->gradients->dgate, at, ds * u * sigmoid * FM(v_fma)(gate, one - sigmoid, one), n);
        FM(scan_write_n)(type, t->gradients->dx, at, du, n);
        FM(scan_write_n)(type, t->gradients->dv, at, du * skip, n);
        FM(scan_write_n)(FM_F32, t->dskip, i, FM(v_fma)(du, v, FM(scan_read_n)(FM_F32, t->dskip, i, n)), n);
      }
    }
}

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
  if (call->task.dy)
    for (int64_t part = 0; part < parts; part++)
      for (int64_t i = 0; i < s->width; i++) {
        const float *sums = call->scratch + (3 * part + 2) * s->width;
        call->task.gradients->dweight[i] += sums[i];
        call->task.gradients->dskip[i / (s->width / s->heads)] += sums[s->width + i];
      }
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
