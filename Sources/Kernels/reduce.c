// Sums, maxima, minima, running sums and checks along an axis, in an order that the number of threads does not change.
#include "fermata_elementwise.h"
#ifdef FM_VARIANT
#include "support/vector_math.h"

FM_INLINE vf FM(join)(fm_reduction op, vf a, vf b) {
  return op == FM_SUM ? a + b : op == FM_MAX ? FM(v_maximum)(a, b) : FM(v_minimum)(a, b);
}
FM_INLINE float FM(join_one)(fm_reduction op, float a, float b) {
  if (op == FM_SUM) return a + b;
  if (op == FM_MAX) return a > b || a != a ? a : b;
  return a < b || a != a ? a : b;
}
FM_INLINE float FM(start)(fm_reduction op) { return op == FM_SUM ? 0 : op == FM_MAX ? -INFINITY : INFINITY; }

// n contiguous elements in four accumulators.
FM_INLINE float FM(run)(fm_reduction op, fm_type type, const void *x, int64_t n) {
  vf s[4];
  for (int k = 0; k < 4; k++) s[k] = FM(v_set)(FM(start)(op));
  int64_t i = 0;
  for (; i + 4 * FM_LANES <= n; i += 4 * FM_LANES)
    for (int k = 0; k < 4; k++) s[k] = FM(join)(op, s[k], FM(v_read)(type, x, i + k * FM_LANES));
  for (; i + FM_LANES <= n; i += FM_LANES) s[0] = FM(join)(op, s[0], FM(v_read)(type, x, i));
  vf all = FM(join)(op, FM(join)(op, s[0], s[1]), FM(join)(op, s[2], s[3]));
  if (i < n) {
    vf rest = FM(v_read_n)(type, x, i, n - i);
    for (int64_t k = n - i; k < FM_LANES; k++) rest[k] = FM(start)(op);
    all = FM(join)(op, all, rest);
  }
  float result = all[0];
  if (op == FM_SUM) return FM(v_sum)(all);
  for (int k = 1; k < FM_LANES; k++) result = FM(join_one)(op, result, all[k]);
  return result;
}

static float FM(reduce_run)(fm_reduction op, fm_type type, const void *x, int64_t n) {
#define CASE(op) case op: return type == FM_BF16 ? FM(run)(op, FM_BF16, x, n) : FM(run)(op, FM_F32, x, n);
  switch (op) { CASE(FM_SUM) CASE(FM_MAX) CASE(FM_MIN) }
#undef CASE
  return 0;
}

// total[j] = reduction over `rows` rows, `step` elements apart, of columns 0..<n.
FM_INLINE void FM(columns)(fm_reduction op, fm_type type, const void *x, int64_t step, int64_t rows, float *total, int64_t n) {
  for (int64_t j = 0; j < n; j++) total[j] = FM(start)(op);
  for (int64_t i = 0; i < rows; i++) {
    int64_t j = 0, base = i * step;
    for (; j + FM_LANES <= n; j += FM_LANES)
      FM(v_store)(total + j, FM(join)(op, FM(v_load)(total + j), FM(v_read)(type, x, base + j)));
    for (; j < n; j++) {
      float value = type == FM_BF16 ? FM(v_load_bf16_n)((const uint16_t *)x + base + j, 1)[0] : ((const float *)x)[base + j];
      total[j] = FM(join_one)(op, total[j], value);
    }
  }
}

static void FM(reduce_columns)(fm_reduction op, fm_type type, const void *x, int64_t step, int64_t rows, float *total,
                               int64_t n) {
#define CASE(op)                                                                      \
  case op:                                                                            \
    if (type == FM_BF16) FM(columns)(op, FM_BF16, x, step, rows, total, n);           \
    else FM(columns)(op, FM_F32, x, step, rows, total, n);                            \
    return;
  switch (op) { CASE(FM_SUM) CASE(FM_MAX) CASE(FM_MIN) }
#undef CASE
}

// The first index of `value` in a contiguous row (of NaN, when value is NaN).
static int64_t FM(find)(fm_type type, const void *x, int64_t n, float value) {
  int64_t i = 0;
  int wants_nan = value != value;
  for (; i + FM_LANES <= n; i += FM_LANES) {
    vf v = FM(v_read)(type, x, i);
    vi hit = wants_nan ? (vi)(v != v) : (vi)(v == FM(v_set)(value));
    int any = 0;
    for (int k = 0; k < FM_LANES; k++) any |= hit[k];
    if (any) break;
  }
  for (; i < n; i++) {
    float v = FM(v_read_n)(type, x, i, 1)[0];
    if (wants_nan ? v != v : v == value) return i;
  }
  return 0;
}

// x - x is zero for finite x and NaN otherwise.
static int FM(non_finite)(fm_type type, const void *x, int64_t n) {
  vf sum = FM(v_set)(0);
  int64_t i = 0;
  for (; i + FM_LANES <= n; i += FM_LANES) {
    vf v = FM(v_read)(type, x, i);
    sum = sum + (v - v);
  }
  if (i < n) {
    vf v = FM(v_read_n)(type, x, i, n - i);
    sum = sum + (v - v);
  }
  return FM(v_sum)(sum) != 0.0f;
}

#else
#define FM_FILE "../reduce.c"
#include "support/each_variant.h"
#include "support/strided.h"

// Rows longer than this are summed in runs of f32, joined in f64.
#define RUN 8192
// Long rows and columns are cut into at most this many parts for threads; the cut depends on the shape alone.
#define ROW_PARTS 256
#define COLUMN_PARTS 16
#define COLUMN_BLOCK 512

static int64_t type_bytes(fm_type type) {
  static const int64_t bytes[] = {4, 2, 4, 8, 1};
  return bytes[type];
}
static inline __attribute__((always_inline)) void store_float(fm_type type, void *y, int64_t i, float v) {
  if (type == FM_F32) { ((float *)y)[i] = v; return; }
  uint32_t bits;
  memcpy(&bits, &v, 4);
  ((uint16_t *)y)[i] = (uint16_t)((v != v ? bits | 0x400000 : bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
static inline __attribute__((always_inline)) float load_float(fm_type type, const void *x, int64_t i) {
  if (type == FM_F32) return ((const float *)x)[i];
  uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

static double join(fm_reduction op, double a, double b) {
  if (op == FM_SUM) return a + b;
  if (op == FM_MAX) return a > b || a != a ? a : b;
  return a < b || a != a ? a : b;
}
static double identity(fm_reduction op) { return op == FM_SUM ? 0 : op == FM_MAX ? -INFINITY : INFINITY; }

typedef struct {
  fm_reduction op;
  fm_type type;
  const char *x;
  void *y;
  int64_t outer, axis, inner, rows_per_item, blocks, block, part_length;
  double *row_parts;
  float *column_parts;
} reduce_task;

static double reduce_part(const reduce_task *t, const char *row, int64_t first, int64_t last) {
  double total = identity(t->op);
  for (int64_t i = first; i < last; i += RUN)
    total = join(t->op, total,
                 (double)FM_CALL(reduce_run)(t->op, t->type, row + i * type_bytes(t->type), last - i < RUN ? last - i : RUN));
  return total;
}

static void row_part_item(void *context, int64_t part) {
  const reduce_task *t = context;
  int64_t first = part * t->part_length, last = first + t->part_length < t->axis ? first + t->part_length : t->axis;
  t->row_parts[part] = reduce_part(t, t->x, first, last);
}

// One row by parts: the same parts whether threads share them or not.
static double reduce_row(reduce_task *t, int shared) {
  int64_t parts = (t->axis + t->part_length - 1) / t->part_length;
  double values[ROW_PARTS], total = identity(t->op);
  t->row_parts = values;
  if (shared) fm_parallel(parts, row_part_item, t);
  else for (int64_t k = 0; k < parts; k++) row_part_item(t, k);
  for (int64_t k = 0; k < parts; k++) total = join(t->op, total, values[k]);
  return total;
}

static void rows_item(void *context, int64_t item) {
  reduce_task t = *(const reduce_task *)context;
  const char *x = t.x;
  int64_t first = item * t.rows_per_item;
  int64_t last = first + t.rows_per_item < t.outer ? first + t.rows_per_item : t.outer;
  for (int64_t i = first; i < last; i++) {
    t.x = x + i * t.axis * type_bytes(t.type);
    store_float(t.type, t.y, i, (float)(t.axis <= RUN ? reduce_part(&t, t.x, 0, t.axis) : reduce_row(&t, 0)));
  }
}

static void reduce_rows(reduce_task *t) {
  t->part_length = (t->axis + ROW_PARTS - 1) / ROW_PARTS;
  t->part_length = (t->part_length + RUN - 1) / RUN * RUN;
  if (t->outer < 32 && t->axis > 4 * RUN) {
    const char *x = t->x;
    for (int64_t i = 0; i < t->outer; i++) {
      t->x = x + i * t->axis * type_bytes(t->type);
      store_float(t->type, t->y, i, (float)reduce_row(t, 1));
    }
    return;
  }
  t->rows_per_item = t->axis >= FM_GRAIN ? 1 : FM_GRAIN / t->axis;
  if (t->outer * t->axis <= 2 * FM_GRAIN) t->rows_per_item = t->outer;
  fm_parallel((t->outer + t->rows_per_item - 1) / t->rows_per_item, rows_item, t);
}

static void column_part(const reduce_task *t, int64_t block, int64_t part, float *total) {
  int64_t j = block % t->blocks * t->block, n = t->inner - j < t->block ? t->inner - j : t->block;
  int64_t first = part * t->part_length, last = first + t->part_length < t->axis ? first + t->part_length : t->axis;
  int64_t offset = (block / t->blocks * t->axis + first) * t->inner + j;
  FM_CALL(reduce_columns)(t->op, t->type, t->x + offset * type_bytes(t->type), t->inner, last - first, total, n);
}

static void finish_columns(const reduce_task *t, int64_t block, const float *parts, int64_t count) {
  int64_t j = block % t->blocks * t->block, n = t->inner - j < t->block ? t->inner - j : t->block;
  int64_t y = block / t->blocks * t->inner + j;
  for (int64_t i = 0; i < n; i++) {
    double total = parts[i];
    for (int64_t k = 1; k < count; k++) total = join(t->op, total, parts[k * COLUMN_BLOCK + i]);
    store_float(t->type, t->y, y + i, (float)total);
  }
}

static int64_t column_parts(const reduce_task *t) { return (t->axis + t->part_length - 1) / t->part_length; }

static void column_block_item(void *context, int64_t block) {
  const reduce_task *t = context;
  float parts[COLUMN_PARTS * COLUMN_BLOCK];
  int64_t count = column_parts(t);
  for (int64_t k = 0; k < count; k++) column_part(t, block, k, parts + k * COLUMN_BLOCK);
  finish_columns(t, block, parts, count);
}

static void column_part_item(void *context, int64_t item) {
  const reduce_task *t = context;
  column_part(t, t->rows_per_item, item, t->column_parts + item * COLUMN_BLOCK);
}

static void reduce_columns_of(reduce_task *t) {
  t->block = t->inner < COLUMN_BLOCK ? t->inner : COLUMN_BLOCK;
  t->blocks = (t->inner + t->block - 1) / t->block;
  t->part_length = (t->axis + COLUMN_PARTS - 1) / COLUMN_PARTS;
  if (t->part_length < 64) t->part_length = 64;
  int64_t items = t->outer * t->blocks;
  if (t->outer * t->axis * t->inner <= 2 * FM_GRAIN) {
    for (int64_t i = 0; i < items; i++) column_block_item(t, i);
  } else if (items >= 16 || column_parts(t) == 1) {
    fm_parallel(items, column_block_item, t);
  } else {
    float parts[COLUMN_PARTS * COLUMN_BLOCK];
    t->column_parts = parts;
    for (int64_t i = 0; i < items; i++) {
      t->rows_per_item = i;
      fm_parallel(column_parts(t), column_part_item, t);
      finish_columns(t, i, parts, column_parts(t));
    }
  }
}

#define DEFINE_INTEGER_REDUCE(T, U, LOW, HIGH)                                                                       \
  static void reduce_##T(fm_reduction op, const T *x, T *y, int64_t outer, int64_t axis, int64_t inner) {            \
    for (int64_t o = 0; o < outer; o++, y += inner) {                                                                \
      for (int64_t j = 0; j < inner; j++) y[j] = op == FM_SUM ? 0 : op == FM_MAX ? LOW : HIGH;                       \
      for (int64_t i = 0; i < axis; i++, x += inner) {                                                               \
        if (op == FM_SUM) for (int64_t j = 0; j < inner; j++) y[j] = (T)((U)y[j] + (U)x[j]);                         \
        else if (op == FM_MAX) for (int64_t j = 0; j < inner; j++) y[j] = x[j] > y[j] ? x[j] : y[j];                 \
        else for (int64_t j = 0; j < inner; j++) y[j] = x[j] < y[j] ? x[j] : y[j];                                   \
      }                                                                                                              \
    }                                                                                                                \
  }
DEFINE_INTEGER_REDUCE(int32_t, uint32_t, INT32_MIN, INT32_MAX)
DEFINE_INTEGER_REDUCE(int64_t, uint64_t, INT64_MIN, INT64_MAX)

void fm_reduce(fm_reduction op, fm_type type, const void *x, void *y, int64_t outer, int64_t axis, int64_t inner) {
  if (outer <= 0 || inner <= 0) return;
  if (type == FM_I32) { reduce_int32_t(op, x, y, outer, axis, inner); return; }
  if (type == FM_I64) { reduce_int64_t(op, x, y, outer, axis, inner); return; }
  if (axis <= 0) {
    for (int64_t i = 0; i < outer * inner; i++) store_float(type, y, i, (float)identity(op));
    return;
  }
  reduce_task t = {.op = op, .type = type, .x = x, .y = y, .outer = outer, .axis = axis, .inner = inner};
  if (inner == 1) reduce_rows(&t); else reduce_columns_of(&t);
}

typedef struct {
  fm_type type;
  const char *x;
  int32_t *y;
  int64_t axis, inner;
} argmax_task;

// First maximum of one strided line; NaN counts as the largest value.
static int32_t argmax_line(fm_type type, const char *x, int64_t axis, int64_t step) {
  int64_t best = 0;
  if (type == FM_I32) {
    const int32_t *v = (const int32_t *)x;
    for (int64_t i = 1; i < axis; i++) if (v[i * step] > v[best * step]) best = i;
  } else if (type == FM_I64) {
    const int64_t *v = (const int64_t *)x;
    for (int64_t i = 1; i < axis; i++) if (v[i * step] > v[best * step]) best = i;
  } else {
    float top = load_float(type, x, 0);
    for (int64_t i = 1; i < axis && top == top; i++) {
      float v = load_float(type, x, i * step);
      if (v > top || v != v) { top = v; best = i; }
    }
  }
  return (int32_t)best;
}

static void argmax_item(void *context, int64_t o) {
  const argmax_task *t = context;
  const char *x = t->x + o * t->axis * t->inner * type_bytes(t->type);
  if (t->inner == 1 && (t->type == FM_F32 || t->type == FM_BF16)) {
    float top = FM_CALL(reduce_run)(FM_MAX, t->type, x, t->axis);
    t->y[o] = (int32_t)FM_CALL(find)(t->type, x, t->axis, top);
    return;
  }
  for (int64_t j = 0; j < t->inner; j++)
    t->y[o * t->inner + j] = argmax_line(t->type, x + j * type_bytes(t->type), t->axis, t->inner);
}

void fm_argmax(fm_type type, const void *x, int32_t *y, int64_t outer, int64_t axis, int64_t inner) {
  argmax_task t = {type, x, y, axis, inner};
  if (axis <= 0) return;
  if (outer * axis * inner <= 2 * FM_GRAIN) for (int64_t o = 0; o < outer; o++) argmax_item(&t, o);
  else fm_parallel(outer, argmax_item, &t);
}

typedef struct {
  fm_type type;
  const char *x;
  char *y;
  int64_t axis, inner, blocks;
  int reverse;
} running_task;

#define RUNNING_BLOCK 256

// One block of columns of one outer index. Floats accumulate in f64: each output is rounded once.
static inline __attribute__((always_inline)) void running_floats(fm_type type, const running_task *t, int64_t base, int64_t n) {
  double sum[RUNNING_BLOCK] = {0};
  int64_t step = t->reverse ? -t->inner : t->inner, at = base + (t->reverse ? (t->axis - 1) * t->inner : 0);
  if (n == 1) {
    double total = 0;
    for (int64_t i = 0; i < t->axis; i++, at += step) store_float(type, t->y, at, (float)(total += load_float(type, t->x, at)));
    return;
  }
  for (int64_t i = 0; i < t->axis; i++, at += step)
    for (int64_t k = 0; k < n; k++) store_float(type, t->y, at + k, (float)(sum[k] += load_float(type, t->x, at + k)));
}

static void running_integers(const running_task *t, int64_t base, int64_t n) {
  uint64_t sum[RUNNING_BLOCK] = {0};
  for (int64_t i = 0; i < t->axis; i++) {
    int64_t at = base + (t->reverse ? t->axis - 1 - i : i) * t->inner;
    for (int64_t k = 0; k < n; k++) {
      if (t->type == FM_I32) ((int32_t *)t->y)[at + k] = (int32_t)(uint32_t)(sum[k] += (uint64_t)((const int32_t *)t->x)[at + k]);
      else ((int64_t *)t->y)[at + k] = (int64_t)(sum[k] += (uint64_t)((const int64_t *)t->x)[at + k]);
    }
  }
}

static void running_item(void *context, int64_t item) {
  const running_task *t = context;
  int64_t j = item % t->blocks * RUNNING_BLOCK, n = t->inner - j < RUNNING_BLOCK ? t->inner - j : RUNNING_BLOCK;
  int64_t base = item / t->blocks * t->axis * t->inner + j;
  if (t->type == FM_F32) running_floats(FM_F32, t, base, n);
  else if (t->type == FM_BF16) running_floats(FM_BF16, t, base, n);
  else running_integers(t, base, n);
}

void fm_cumulative_sum(fm_type type, const void *x, void *y, int64_t outer, int64_t axis, int64_t inner, int reverse) {
  if (outer <= 0 || axis <= 0 || inner <= 0) return;
  running_task t = {type, x, y, axis, inner, (inner + RUNNING_BLOCK - 1) / RUNNING_BLOCK, reverse};
  int64_t items = outer * t.blocks;
  if (outer * axis * inner <= 2 * FM_GRAIN) for (int64_t i = 0; i < items; i++) running_item(&t, i);
  else fm_parallel(items, running_item, &t);
}

typedef struct {
  fm_type type;
  const char *x;
  int64_t count;
  int found;
} finite_task;

static void finite_item(void *context, int64_t item) {
  finite_task *t = context;
  if (__atomic_load_n(&t->found, __ATOMIC_RELAXED)) return;
  int64_t first = item * FM_GRAIN, n = t->count - first < FM_GRAIN ? t->count - first : FM_GRAIN;
  if (FM_CALL(non_finite)(t->type, t->x + first * type_bytes(t->type), n)) __atomic_store_n(&t->found, 1, __ATOMIC_RELAXED);
}

int fm_has_non_finite(fm_type type, const void *x, int64_t count) {
  finite_task t = {type, x, count, 0};
  int64_t items = (count + FM_GRAIN - 1) / FM_GRAIN;
  if (items <= 2) for (int64_t i = 0; i < items; i++) finite_item(&t, i);
  else fm_parallel(items, finite_item, &t);
  return t.found;
}
#endif
