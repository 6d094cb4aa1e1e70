// Fused gated activations.
#include "fermata_activation.h"
#ifdef FM_VARIANT
// silu(g) = g sigmoid(g); far below zero the product would be infinity times 0 for g = -infinity.
FM_INLINE vf FM(silu)(vf g, vf sigmoid) { return FM(v_select)(g < FM(v_set)(-88.0f), FM(v_set)(0), g * sigmoid); }

// What is rounded to bf16 needs neither all bits of the power nor a Newton step after the reciprocal's 14 bits.
FM_INLINE vf FM(sigmoid_for)(fm_type type, vf x) {
#if defined(__x86_64__) && FM_LANES == 16
  if (type == FM_BF16) {
    vf e = FM(v_exp2)(1, x * FM(v_set)(-1.44269504088896341f));
    return (vf)_mm512_rcp14_ps((__m512)(FM(v_set)(1.0f) + e));
  }
#endif
  return FM(v_sigmoid)(x);
}

FM_INLINE void FM(swiglu_row)(fm_type type, int streams, const char *g, const char *u, char *y, int64_t n) {
  int64_t i = 0, bytes = type == FM_BF16 ? 2 : 4;
  for (; i + FM_LANES <= n; i += FM_LANES) {
    // Two short runs a row are more than processors foresee.
    __builtin_prefetch(g + FM_AHEAD + i * bytes);
    __builtin_prefetch(u + FM_AHEAD + i * bytes);
    vf a = FM(v_read)(type, g, i), b = FM(v_read)(type, u, i);
    vf v = FM(silu)(a, FM(sigmoid_for)(type, a)) * b;
    if (streams) FM(v_stream)((float *)y + i, v); else FM(v_write)(type, y, i, v);
  }
  if (i < n) {
    vf a = FM(v_read_n)(type, g, i, n - i), b = FM(v_read_n)(type, u, i, n - i);
    FM(v_write_n)(type, y, i, FM(silu)(a, FM(sigmoid_for)(type, a)) * b, n - i);
  }
}

// du = dy silu(g); dg = dy u (s + silu(g) (1 - s)) with s = sigmoid(g).
FM_INLINE void FM(gradients)(fm_type type, vf a, vf b, vf d, vf *dg, vf *du) {
  vf s = FM(sigmoid_for)(type, a), silu = FM(silu)(a, s);
  *du = d * silu;
  *dg = d * b * (s + silu * (FM(v_set)(1.0f) - s));
}

FM_INLINE void FM(swiglu_row_backward)(fm_type type, const char *g, const char *u, const char *dy, char *dg, char *du, int64_t n) {
  int64_t i = 0, bytes = type == FM_BF16 ? 2 : 4;
  vf p, q;
  for (; i + FM_LANES <= n; i += FM_LANES) {
    __builtin_prefetch(g + FM_AHEAD + i * bytes);
    __builtin_prefetch(u + FM_AHEAD + i * bytes);
    __builtin_prefetch(dy + FM_AHEAD / 2 + i * bytes);
    FM(gradients)(type, FM(v_read)(type, g, i), FM(v_read)(type, u, i), FM(v_read)(type, dy, i), &p, &q);
    FM(v_write)(type, dg, i, p);
    FM(v_write)(type, du, i, q);
  }
  if (i < n) {
    FM(gradients)(type, FM(v_read_n)(type, g, i, n - i), FM(v_read_n)(type, u, i, n - i), FM(v_read_n)(type, dy, i, n - i), &p,
                  &q);
    FM(v_write_n)(type, dg, i, p, n - i);
    FM(v_write_n)(type, du, i, q, n - i);
  }
}

// dy NULL: forwards, y is (rows, width). Otherwise y is dx (rows, 2 width).
static void FM(swiglu_rows)(fm_type type, int streams, const char *x, const char *dy, char *y, int64_t rows, int64_t width) {
  int64_t step = width * (type == FM_BF16 ? 2 : 4);
  for (int64_t r = 0; r < rows; r++) {
    const char *g = x + 2 * r * step, *u = g + step;
    if (!dy) {
      if (type == FM_BF16) FM(swiglu_row)(FM_BF16, 0, g, u, y + r * step, width);
      else if (streams) FM(swiglu_row)(FM_F32, 1, g, u, y + r * step, width);
      else FM(swiglu_row)(FM_F32, 0, g, u, y + r * step, width);
    } else {
      char *dg = y + 2 * r * step, *du = dg + step;
      if (type == FM_BF16) FM(swiglu_row_backward)(FM_BF16, g, u, dy + r * step, dg, du, width);
      else FM(swiglu_row_backward)(FM_F32, g, u, dy + r * step, dg, du, width);
    }
  }
  if (streams) FM(v_fence)();
}

#else
#define FM_FILE "../activation.c"
#include "support/each_variant.h"

typedef struct {
  fm_type type;
  const char *x, *dy;
  char *y;
  int64_t rows, width, rows_per_item;
  int streams;
} swiglu_task;

static void swiglu_item(void *context, int64_t item) {
  const swiglu_task *t = context;
  int64_t r = item * t->rows_per_item, step = t->width * (t->type == FM_BF16 ? 2 : 4);
  int64_t rows = t->rows - r < t->rows_per_item ? t->rows - r : t->rows_per_item;
  FM_CALL(swiglu_rows)(t->type, t->streams, t->x + 2 * r * step, t->dy ? t->dy + r * step : NULL, t->y + (t->dy ? 2 : 1) * r * step, rows,
                       t->width);
}

static void run(swiglu_task t) {
  if (t.rows <= 0 || t.width <= 0) return;
  t.streams = t.type == FM_F32 && !t.dy && fm_streams(t.y, 4 * t.rows * t.width, 4 * t.width);
  t.rows_per_item = t.width >= 8192 ? 1 : 8192 / t.width;
  if (t.rows * t.width <= 16384) t.rows_per_item = t.rows;
  fm_parallel((t.rows + t.rows_per_item - 1) / t.rows_per_item, swiglu_item, &t);
}

void fm_swiglu(fm_type type, const void *x, void *y, int64_t rows, int64_t width) {
  run((swiglu_task){.type = type, .x = x, .y = y, .rows = rows, .width = width});
}
void fm_swiglu_backward(fm_type type, const void *x, const void *dy, void *dx, int64_t rows, int64_t width) {
  run((swiglu_task){.type = type, .x = x, .dy = dy, .y = dx, .rows = rows, .width = width});
}
#endif
