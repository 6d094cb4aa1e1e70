// RMS norm, layer norm and softmax over rows, forwards and backwards.
#include "fermata_norm.h"
#ifdef FM_VARIANT
#include "support/vector_math.h"

// Visits a row in vectors; the last one, shorter, is padded with zeros.
#define FOR_VECTORS(n) for (int64_t i = 0, m; m = n - i < FM_LANES ? n - i : FM_LANES, i < n; i += FM_LANES)
#define READ(type, base) (m == FM_LANES ? FM(v_read)(type, base, i) : FM(v_read_n)(type, base, i, m))
#define WRITE(type, base, v) do { if (m == FM_LANES) FM(v_write)(type, base, i, v); else FM(v_write_n)(type, base, i, v, m); } while (0)

// Sum of (x - shift)^2, four accumulators.
FM_INLINE float FM(squares)(fm_type type, const void *x, float shift, int64_t n) {
  vf s[4] = {FM(v_set)(0), FM(v_set)(0), FM(v_set)(0), FM(v_set)(0)}, c = FM(v_set)(shift);
  int64_t i = 0;
  for (; i + 4 * FM_LANES <= n; i += 4 * FM_LANES)
    for (int k = 0; k < 4; k++) {
      vf v = FM(v_read)(type, x, i + k * FM_LANES) - c;
      s[k] = FM(v_fma)(v, v, s[k]);
    }
  for (; i + FM_LANES <= n; i += FM_LANES) {
    vf v = FM(v_read)(type, x, i) - c;
    s[0] = FM(v_fma)(v, v, s[0]);
  }
  float rest = 0;
  if (i < n) {
    vf v = FM(v_read_n)(type, x, i, n - i) - c;
    v = v * v;
    for (int64_t k = 0; k < n - i; k++) rest += v[k];
  }
  return FM(v_sum)((s[0] + s[1]) + (s[2] + s[3])) + rest;
}

FM_INLINE float FM(total)(fm_type type, const void *x, int64_t n) {
  vf s[4] = {FM(v_set)(0), FM(v_set)(0), FM(v_set)(0), FM(v_set)(0)};
  int64_t i = 0;
  for (; i + 4 * FM_LANES <= n; i += 4 * FM_LANES)
    for (int k = 0; k < 4; k++) s[k] = s[k] + FM(v_read)(type, x, i + k * FM_LANES);
  for (; i + FM_LANES <= n; i += FM_LANES) s[0] = s[0] + FM(v_read)(type, x, i);
  if (i < n) s[1] = s[1] + FM(v_read_n)(type, x, i, n - i);
  return FM(v_sum)((s[0] + s[1]) + (s[2] + s[3]));
}

// One row: y = (x - mean) * scale * weight + bias, where RMS norm has mean 0 and no bias.
FM_INLINE void FM(norm_row)(fm_type type, int centred, int streams, const char *x, const float *weight, const float *bias, char *y,
                            float *mean_out, float *scale_out, int64_t width, float epsilon) {
  float mean = centred ? FM(total)(type, x, width) / (float)width : 0;
  float scale = 1.0f / sqrtf(FM(squares)(type, x, mean, width) / (float)width + epsilon);
  if (mean_out) *mean_out = mean;
  if (scale_out) *scale_out = scale;
  vf c = FM(v_set)(mean), s = FM(v_set)(scale);
  FOR_VECTORS(width) {
    // Rows to come are fetched while this one is written.
    __builtin_prefetch(x + FM_AHEAD + i * (type == FM_BF16 ? 2 : 4));
    vf v = READ(type, x);
    if (centred) v = v - c;
    v = v * s;
    if (weight) v = v * READ(FM_F32, weight);
    if (bias) v = v + READ(FM_F32, bias);
    if (streams) FM(v_stream)((float *)y + i, v); else WRITE(type, y, v);
  }
}

static void FM(norm_rows)(fm_type type, int centred, int streams, const char *x, const float *weight, const float *bias,
                          char *y, float *mean, float *scale, int64_t rows, int64_t width, float epsilon) {
  int64_t step = width * (type == FM_BF16 ? 2 : 4);
  for (int64_t r = 0; r < rows; r++, x += step, y += step) {
    float *m = mean ? mean + r : NULL, *s = scale ? scale + r : NULL;
    if (type == FM_BF16) {
      if (centred) FM(norm_row)(FM_BF16, 1, 0, x, weight, bias, y, m, s, width, epsilon);
      else FM(norm_row)(FM_BF16, 0, 0, x, weight, NULL, y, m, s, width, epsilon);
    } else {
      if (centred) FM(norm_row)(FM_F32, 1, 0, x, weight, bias, y, m, s, width, epsilon);
      else if (streams) FM(norm_row)(FM_F32, 0, 1, x, weight, NULL, y, m, s, width, epsilon);
      else FM(norm_row)(FM_F32, 0, 0, x, weight, NULL, y, m, s, width, epsilon);
    }
  }
  if (streams) FM(v_fence)();
}

// With g = dy * weight and h = (x - mean) * scale: dx = scale (g - mean(g) - h mean(g h)), mean(g) only when centred.
// Adds dy * h to dweight and dy to dbias where they are wanted.
FM_INLINE void FM(norm_row_backward)(fm_type type, int centred, const char *x, const float *weight, float mean, float scale,
                                     const char *dy, char *dx, float *dweight, float *dbias, int64_t width) {
  // Two accumulators each: v_fma of one waits for itself.
  vf c = FM(v_set)(mean), s = FM(v_set)(scale), zero = FM(v_set)(0), sum = zero, sum_odd = zero, product = zero, product_odd = zero;
  FOR_VECTORS(width) {
    vf h = READ(type, x), g = READ(type, dy);
    if (centred) h = h - c;
    h = h * s;
    if (dweight) WRITE(FM_F32, dweight, FM(v_fma)(g, h, READ(FM_F32, dweight)));
    if (dbias) WRITE(FM_F32, dbias, READ(FM_F32, dbias) + g);
    if (weight) g = g * READ(FM_F32, weight);
    vf next = FM(v_fma)(g, h, product_odd);
    product_odd = product;
    product = next;
    if (centred) {
      next = sum_odd + g;
      sum_odd = sum;
      sum = next;
    }
  }
  vf g_mean = FM(v_set)(FM(v_sum)(sum + sum_odd) / (float)width);
  vf gh_mean = FM(v_set)(FM(v_sum)(product + product_odd) / (float)width);
  FOR_VECTORS(width) {
    vf h = READ(type, x), g = READ(type, dy);
    if (centred) h = h - c;
    h = h * s;
    if (weight) g = g * READ(FM_F32, weight);
    if (centred) g = g - g_mean;
    WRITE(type, dx, s * (g - h * gh_mean));
  }
}

static void FM(norm_rows_backward)(fm_type type, int centred, const char *x, const float *weight, const float *mean,
                                   const float *scale, const char *dy, char *dx, float *dweight, float *dbias, int64_t rows,
                                   int64_t width) {
  int64_t step = width * (type == FM_BF16 ? 2 : 4);
  for (int64_t r = 0; r < rows; r++, x += step, dy += step, dx += step) {
    float m = centred ? mean[r] : 0, s = scale[r];
    if (type == FM_BF16) {
      if (centred) FM(norm_row_backward)(FM_BF16, 1, x, weight, m, s, dy, dx, dweight, dbias, width);
      else FM(norm_row_backward)(FM_BF16, 0, x, weight, m, s, dy, dx, dweight, NULL, width);
    } else {
      if (centred) FM(norm_row_backward)(FM_F32, 1, x, weight, m, s, dy, dx, dweight, dbias, width);
      else FM(norm_row_backward)(FM_F32, 0, x, weight, m, s, dy, dx, dweight, NULL, width);
    }
  }
}

// The largest of a row from element i on and of `top`, NaN aside, which comes back with the exponentials.
FM_INLINE float FM(largest)(fm_type type, const char *x, int64_t i, int64_t width, vf top) {
  for (; i + FM_LANES <= width; i += FM_LANES) top = FM(v_max)(FM(v_read)(type, x, i), top);
  if (i < width) {
    vf v = FM(v_read_n)(type, x, i, width - i);
    for (int64_t k = width - i; k < FM_LANES; k++) v[k] = -INFINITY;
    top = FM(v_max)(v, top);
  }
  return FM(v_reduce_max)(top);
}

// One row whose largest element is known; returns the largest of the row `next`, found along the way: waiting for it would
// leave the arithmetic idle. In f32 the exponentials wait in y for their sum; a bf16 y would round them, so there they are
// computed twice.
FM_INLINE float FM(softmax_row)(fm_type type, const char *x, const char *next, float most, char *y, int64_t width) {
  vf c = FM(v_set)(most), even = FM(v_set)(0), odd = even, top = FM(v_set)(-INFINITY), other = top;
  int64_t i = 0;
  for (; i + 2 * FM_LANES <= width; i += 2 * FM_LANES) {
    vf a = FM(v_exp)(FM(v_read)(type, x, i) - c), b = FM(v_exp)(FM(v_read)(type, x, i + FM_LANES) - c);
    top = FM(v_max)(FM(v_read)(type, next, i), top);
    other = FM(v_max)(FM(v_read)(type, next, i + FM_LANES), other);
    even = even + a;
    odd = odd + b;
    if (type == FM_F32) {
      FM(v_write)(FM_F32, y, i, a);
      FM(v_write)(FM_F32, y, i + FM_LANES, b);
    }
  }
  float found = FM(largest)(type, next, i, width, FM(v_max)(top, other)), rest = 0;
  for (; i < width; i += FM_LANES) {
    int64_t m = width - i < FM_LANES ? width - i : FM_LANES;
    vf e = FM(v_exp)(FM(v_read_n)(type, x, i, m) - c);
    for (int64_t k = 0; k < m; k++) rest += e[k];
    if (type == FM_F32) FM(v_write_n)(FM_F32, y, i, e, m);
  }
  vf scale = FM(v_set)(1.0f / (FM(v_sum)(even + odd) + rest));
  FOR_VECTORS(width) {
    vf e = type == FM_F32 ? READ(FM_F32, y) : FM(v_exp)(READ(type, x) - c);
    WRITE(type, y, e * scale);
  }
  return found;
}

FM_INLINE void FM(softmax_forward)(fm_type type, const char *x, char *y, int64_t step, int64_t rows, int64_t width) {
  float most = FM(largest)(type, x, 0, width, FM(v_set)(-INFINITY));
  for (int64_t r = 0; r < rows; r++, x += step, y += step)
    // After the last row there is none; its own, unread again, may already be overwritten in place.
    most = FM(softmax_row)(type, x, r + 1 < rows ? x + step : x, most, y, width);
}

FM_INLINE void FM(softmax_row_backward)(fm_type type, const char *y, const char *dy, char *dx, int64_t width) {
  vf sum = FM(v_set)(0), sum_odd = sum;
  FOR_VECTORS(width) {
    vf next = FM(v_fma)(READ(type, y), READ(type, dy), sum_odd);
    sum_odd = sum;
    sum = next;
  }
  vf c = FM(v_set)(FM(v_sum)(sum + sum_odd));
  FOR_VECTORS(width) WRITE(type, dx, READ(type, y) * (READ(type, dy) - c));
}

static void FM(softmax_rows)(fm_type type, int backward, const char *x, const char *dy, char *out, int64_t rows, int64_t width) {
  int64_t step = width * (type == FM_BF16 ? 2 : 4);
  if (!backward) {
    if (type == FM_BF16) FM(softmax_forward)(FM_BF16, x, out, step, rows, width);
    else FM(softmax_forward)(FM_F32, x, out, step, rows, width);
    return;
  }
  for (int64_t r = 0; r < rows; r++, x += step, dy += step, out += step) {
    if (type == FM_BF16) FM(softmax_row_backward)(FM_BF16, x, dy, out, width);
    else FM(softmax_row_backward)(FM_F32, x, dy, out, width);
  }
}
#undef FOR_VECTORS
#undef READ
#undef WRITE

#else
#define FM_FILE "../norm.c"
#include "support/each_variant.h"
#include <stdlib.h>

// Rows of about this many elements go to a thread at a time.
#define GRAIN 16384
// Weight gradients are summed inside this many runs of rows, then over the runs in order.
#define PARTS 64

typedef struct {
  fm_type type;
  int centred, backward, streams;
  const char *x, *dy;
  const float *weight, *bias, *mean, *scale;
  char *y;
  float *mean_out, *scale_out, *dweight, *dbias;
  float *parts;
  int64_t rows, width, rows_per_item;
  float epsilon;
} norm_task;

static int64_t row_bytes(const norm_task *t) { return t->width * (t->type == FM_BF16 ? 2 : 4); }

static int64_t items_of(norm_task *t) {
  t->rows_per_item = t->width >= GRAIN ? 1 : GRAIN / t->width;
  if (t->rows * t->width <= 2 * GRAIN) t->rows_per_item = t->rows;
  return (t->rows + t->rows_per_item - 1) / t->rows_per_item;
}

static int64_t rows_of(const norm_task *t, int64_t first) {
  return t->rows - first < t->rows_per_item ? t->rows - first : t->rows_per_item;
}

static void norm_item(void *context, int64_t item) {
  const norm_task *t = context;
  int64_t r = item * t->rows_per_item;
  FM_CALL(norm_rows)(t->type, t->centred, t->streams, t->x + r * row_bytes(t), t->weight, t->bias, t->y + r * row_bytes(t),
                     t->mean_out ? t->mean_out + r : NULL, t->scale_out ? t->scale_out + r : NULL, rows_of(t, r), t->width,
                     t->epsilon);
}

void fm_rms_norm(fm_type type, const void *x, const float *weight, void *y, float *inverse_rms, int64_t rows, int64_t width,
                 float epsilon) {
  if (rows <= 0 || width <= 0) return;
  norm_task t = {.type = type, .x = x, .weight = weight, .y = y, .scale_out = inverse_rms, .rows = rows, .width = width,
                 .epsilon = epsilon};
  t.streams = type == FM_F32 && x != y && fm_streams(y, rows * row_bytes(&t), row_bytes(&t));
  fm_parallel(items_of(&t), norm_item, &t);
}

void fm_layer_norm(fm_type type, const void *x, const float *weight, const float *bias, void *y, float *mean,
                   float *inverse_deviation, int64_t rows, int64_t width, float epsilon) {
  if (rows <= 0 || width <= 0) return;
  norm_task t = {.type = type, .centred = 1, .x = x, .weight = weight, .bias = bias, .y = y, .mean_out = mean,
                 .scale_out = inverse_deviation, .rows = rows, .width = width, .epsilon = epsilon};
  fm_parallel(items_of(&t), norm_item, &t);
}

static void backward_rows(const norm_task *t, int64_t r, int64_t rows, float *dweight, float *dbias) {
  FM_CALL(norm_rows_backward)(t->type, t->centred, t->x + r * row_bytes(t), t->weight, t->mean ? t->mean + r : NULL, t->scale + r,
                              t->dy + r * row_bytes(t), t->y + r * row_bytes(t), dweight, dbias, rows, t->width);
}

static void norm_backward_item(void *context, int64_t item) {
  const norm_task *t = context;
  int64_t r = item * t->rows_per_item;
  backward_rows(t, r, rows_of(t, r), NULL, NULL);
}

// One part of the rows, with its own sums of the weights' gradients.
static void norm_backward_part(void *context, int64_t part) {
  const norm_task *t = context;
  int64_t r = part * t->rows_per_item;
  float *sums = t->parts + part * 2 * t->width;
  memset(sums, 0, 2 * sizeof(float) * (size_t)t->width);
  backward_rows(t, r, rows_of(t, r), t->dweight ? sums : NULL, t->dbias ? sums + t->width : NULL);
}

// Joins one part to the total.
static void add_row(float *total, const float *part, int64_t width, int first) {
  if (!total) return;
  for (int64_t j = 0; j < width; j++) total[j] = first ? part[j] : total[j] + part[j];
}

static void norm_backward(norm_task *t) {
  int64_t width = t->width;
  if (t->rows <= 0) {
    if (t->dweight) memset(t->dweight, 0, sizeof(float) * (size_t)width);
    if (t->dbias) memset(t->dbias, 0, sizeof(float) * (size_t)width);
    return;
  }
  if (!t->dweight && !t->dbias) { fm_parallel(items_of(t), norm_backward_item, t); return; }
  t->rows_per_item = (t->rows + PARTS - 1) / PARTS;
  if (t->rows_per_item < 8) t->rows_per_item = 8;
  int64_t parts = (t->rows + t->rows_per_item - 1) / t->rows_per_item;
  size_t bytes = 2 * sizeof(float) * (size_t)(parts * width);
  t->parts = malloc(bytes);
  if (!t->parts) {
    // No memory: one thread adds to the gradients themselves.
    if (t->dweight) memset(t->dweight, 0, sizeof(float) * (size_t)width);
    if (t->dbias) memset(t->dbias, 0, sizeof(float) * (size_t)width);
    backward_rows(t, 0, t->rows, t->dweight, t->dbias);
    return;
  }
  if (t->rows * width <= GRAIN) for (int64_t k = 0; k < parts; k++) norm_backward_part(t, k);
  else fm_parallel(parts, norm_backward_part, t);
  for (int64_t k = 0; k < parts; k++) {
    add_row(t->dweight, t->parts + 2 * k * width, width, k == 0);
    add_row(t->dbias, t->parts + (2 * k + 1) * width, width, k == 0);
  }
  free(t->parts);
}

void fm_rms_norm_backward(fm_type type, const void *x, const float *weight, const float *inverse_rms, const void *dy, void *dx,
                          float *dweight, int64_t rows, int64_t width) {
  norm_task t = {.type = type, .x = x, .weight = weight, .scale = inverse_rms, .dy = dy, .y = dx, .dweight = dweight,
                 .rows = rows, .width = width};
  if (width > 0) norm_backward(&t);
}

void fm_layer_norm_backward(fm_type type, const void *x, const float *weight, const float *mean, const float *inverse_deviation,
                            const void *dy, void *dx, float *dweight, float *dbias, int64_t rows, int64_t width) {
  norm_task t = {.type = type, .centred = 1, .x = x, .weight = weight, .mean = mean, .scale = inverse_deviation, .dy = dy,
                 .y = dx, .dweight = dweight, .dbias = dbias, .rows = rows, .width = width};
  if (width > 0) norm_backward(&t);
}

static void softmax_item(void *context, int64_t item) {
  const norm_task *t = context;
  int64_t r = item * t->rows_per_item, at = r * row_bytes(t);
  FM_CALL(softmax_rows)(t->type, t->backward, t->x + at, t->dy ? t->dy + at : NULL, t->y + at, rows_of(t, r), t->width);
}

void fm_softmax(fm_type type, const void *x, void *y, int64_t rows, int64_t width) {
  if (rows <= 0 || width <= 0) return;
  norm_task t = {.type = type, .x = x, .y = y, .rows = rows, .width = width};
  fm_parallel(items_of(&t), softmax_item, &t);
}

void fm_softmax_backward(fm_type type, const void *y, const void *dy, void *dx, int64_t rows, int64_t width) {
  if (rows <= 0 || width <= 0) return;
  norm_task t = {.type = type, .backward = 1, .x = y, .dy = dy, .y = dx, .rows = rows, .width = width};
  fm_parallel(items_of(&t), softmax_item, &t);
}
#endif
