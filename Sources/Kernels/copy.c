// Copies between layouts and element types, fills, and rows by index.
#include "fermata_elementwise.h"
#ifdef FM_VARIANT
static void FM(to_bf16)(const float *x, uint16_t *y, int64_t n) {
  int64_t i = 0;
  for (; i + FM_LANES <= n; i += FM_LANES) FM(v_store_bf16)(y + i, FM(v_load)(x + i));
  if (i < n) FM(v_store_bf16_n)(y + i, FM(v_load_n)(x + i, n - i), n - i);
}

static void FM(from_bf16)(const uint16_t *x, float *y, int64_t n) {
  int64_t i = 0;
  for (; i + FM_LANES <= n; i += FM_LANES) FM(v_store)(y + i, FM(v_load_bf16)(x + i));
  if (i < n) FM(v_store_n)(y + i, FM(v_load_bf16_n)(x + i, n - i), n - i);
}

static void FM(add_row)(fm_type type, const void *x, float *y, int64_t n) {
  int64_t i = 0;
  for (; i + FM_LANES <= n; i += FM_LANES) {
    vf v = type == FM_BF16 ? FM(v_load_bf16)((const uint16_t *)x + i) : FM(v_load)((const float *)x + i);
    FM(v_store)(y + i, FM(v_load)(y + i) + v);
  }
  if (i < n) FM(v_store_n)(y + i, FM(v_load_n)(y + i, n - i) + FM(v_read_n)(type, x, i, n - i), n - i);
}

#else
#define FM_FILE "../copy.c"
#include "support/each_variant.h"
#include "support/strided.h"

static int64_t type_bytes(fm_type type) {
  static const int64_t bytes[] = {4, 2, 4, 8, 1};
  return bytes[type];
}

// One element of any type, read as the widest integer or as a float.
#define ALWAYS static inline __attribute__((always_inline))
ALWAYS float get_float(fm_type type, const void *x, int64_t i) {
  if (type == FM_F32) return ((const float *)x)[i];
  uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
ALWAYS int64_t get_integer(fm_type type, const void *x, int64_t i) {
  switch (type) {
    case FM_I32: return ((const int32_t *)x)[i];
    case FM_I64: return ((const int64_t *)x)[i];
    default: return ((const uint8_t *)x)[i];
  }
}
ALWAYS uint16_t round_to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if (value != value) return (uint16_t)((bits | 0x400000) >> 16);
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
ALWAYS void put_float(fm_type type, void *y, int64_t i, float v) {
  switch (type) {
    case FM_F32: ((float *)y)[i] = v; break;
    case FM_BF16: ((uint16_t *)y)[i] = round_to_bf16(v); break;
    case FM_I32: ((int32_t *)y)[i] = v != v ? 0 : v >= 0x1p31f ? INT32_MAX : v <= -0x1p31f ? INT32_MIN : (int32_t)v; break;
    case FM_I64: ((int64_t *)y)[i] = v != v ? 0 : v >= 0x1p63f ? INT64_MAX : v <= -0x1p63f ? INT64_MIN : (int64_t)v; break;
    case FM_U8: ((uint8_t *)y)[i] = v >= 255 ? 255 : v > 0 ? (uint8_t)v : 0; break;
  }
}
ALWAYS void put_integer(fm_type type, void *y, int64_t i, int64_t v) {
  switch (type) {
    case FM_F32: ((float *)y)[i] = (float)v; break;
    case FM_BF16: ((uint16_t *)y)[i] = round_to_bf16((float)v); break;
    case FM_I32: ((int32_t *)y)[i] = v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int32_t)v; break;
    case FM_I64: ((int64_t *)y)[i] = v; break;
    case FM_U8: ((uint8_t *)y)[i] = v > 255 ? 255 : v < 0 ? 0 : (uint8_t)v; break;
  }
}

ALWAYS void convert_loop(fm_type from, const void *x, int64_t s, fm_type to, void *y, int64_t t, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    if (from == FM_F32 || from == FM_BF16) put_float(to, y, i * t, get_float(from, x, i * s));
    else put_integer(to, y, i * t, get_integer(from, x, i * s));
  }
}

#define MOVE_LOOP(T) for (int64_t i = 0; i < n; i++) ((T *)y)[i * t] = ((const T *)x)[i * s]

// n elements from stride s to stride t, converting.
static void move_row(fm_type from, const void *x, int64_t s, fm_type to, void *y, int64_t t, int64_t n) {
  if (from == to) {
    int64_t bytes = type_bytes(from);
    if (s == 1 && t == 1) memcpy(y, x, (size_t)(n * bytes));
    else if (bytes == 4) MOVE_LOOP(uint32_t);
    else if (bytes == 2) MOVE_LOOP(uint16_t);
    else if (bytes == 8) MOVE_LOOP(uint64_t);
    else MOVE_LOOP(uint8_t);
    return;
  }
  if (s == 1 && t == 1 && from == FM_F32 && to == FM_BF16) { FM_CALL(to_bf16)(x, y, n); return; }
  if (s == 1 && t == 1 && from == FM_BF16 && to == FM_F32) { FM_CALL(from_bf16)(x, y, n); return; }
#define TO(from, to) case to: convert_loop(from, x, s, to, y, t, n); break;
#define FROM(from) \
  case from: switch (to) { TO(from, FM_F32) TO(from, FM_BF16) TO(from, FM_I32) TO(from, FM_I64) TO(from, FM_U8) } break;
  switch (from) { FROM(FM_F32) FROM(FM_BF16) FROM(FM_I32) FROM(FM_I64) FROM(FM_U8) }
}

typedef struct {
  fm_type from, to;
  const char *x;
  char *y;
  // Set for transposes: the x stride along y's innermost axis, and the y stride along x's.
  int64_t x_step, y_step, tile_rows, tile_columns;
} copy_task;

static void copy_row(const void *context, const fm_layout *l, const int64_t *offset, int64_t n) {
  const copy_task *t = context;
  int inner = l->rank - 1;
  move_row(t->from, t->x + offset[0] * type_bytes(t->from), l->stride[0][inner], t->to,
           t->y + offset[1] * type_bytes(t->to), l->stride[1][inner], n);
}

// A transpose moves tiles of TILE x TILE, small enough for the first-level cache: x is read and y written in whole lines.
#define TILE 64
#define STRIP 32

ALWAYS void transpose_4(const uint32_t *x, int64_t x_step, uint32_t *y, int64_t y_step) {
  typedef uint32_t v4 __attribute__((vector_size(16)));
  v4 a, b, c, d;
  memcpy(&a, x, 16); memcpy(&b, x + x_step, 16); memcpy(&c, x + 2 * x_step, 16); memcpy(&d, x + 3 * x_step, 16);
  v4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  v4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  a = __builtin_shufflevector(ab, cd, 0, 1, 4, 5); b = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  c = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5); d = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
  memcpy(y, &a, 16); memcpy(y + y_step, &b, 16); memcpy(y + 2 * y_step, &c, 16); memcpy(y + 3 * y_step, &d, 16);
}

ALWAYS void transpose_8(const uint16_t *x, int64_t x_step, uint16_t *y, int64_t y_step) {
  typedef uint16_t v8 __attribute__((vector_size(16)));
  v8 a[8], b[8];
  for (int k = 0; k < 8; k++) memcpy(&a[k], x + k * x_step, 16);
  // Each round weaves rows that are half the block apart; three rounds make the transpose.
  for (int k = 0; k < 4; k++) {
    b[2 * k] = __builtin_shufflevector(a[k], a[k + 4], 0, 8, 1, 9, 2, 10, 3, 11);
    b[2 * k + 1] = __builtin_shufflevector(a[k], a[k + 4], 4, 12, 5, 13, 6, 14, 7, 15);
  }
  for (int k = 0; k < 4; k++) {
    a[2 * k] = __builtin_shufflevector(b[k], b[k + 4], 0, 8, 1, 9, 2, 10, 3, 11);
    a[2 * k + 1] = __builtin_shufflevector(b[k], b[k + 4], 4, 12, 5, 13, 6, 14, 7, 15);
  }
  for (int k = 0; k < 4; k++) {
    b[2 * k] = __builtin_shufflevector(a[k], a[k + 4], 0, 8, 1, 9, 2, 10, 3, 11);
    b[2 * k + 1] = __builtin_shufflevector(a[k], a[k + 4], 4, 12, 5, 13, 6, 14, 7, 15);
  }
  for (int k = 0; k < 8; k++) memcpy(y + k * y_step, &b[k], 16);
}

// y[i y_step + j] = x[j x_step + i] for rows i of y and columns j; small blocks in registers, the edges one by one.
#define DEFINE_TRANSPOSE(T, SIDE)                                                                                     \
  static void transpose_##T(const T *x, int64_t x_step, T *y, int64_t y_step, int64_t rows, int64_t columns) {        \
    int64_t i = 0;                                                                                                    \
    for (; i + SIDE <= rows; i += SIDE) {                                                                             \
      int64_t j = 0;                                                                                                  \
      for (; j + SIDE <= columns; j += SIDE) transpose_##SIDE(x + j * x_step + i, x_step, y + i * y_step + j, y_step);\
      for (; j < columns; j++)                                                                                        \
        for (int64_t k = i; k < i + SIDE; k++) y[k * y_step + j] = x[j * x_step + k];                                 \
    }                                                                                                                 \
    for (; i < rows; i++)                                                                                             \
      for (int64_t j = 0; j < columns; j++) y[i * y_step + j] = x[j * x_step + i];                                    \
  }
DEFINE_TRANSPOSE(uint32_t, 4)
DEFINE_TRANSPOSE(uint16_t, 8)

// Strides that are powers of two map a column of lines to few cache sets, so x's lines are first gathered, each once, in a
// small buffer of two (one) cache lines a row; a change between f32 and bf16 happens on the way in or out.
static void transpose_tile(const copy_task *t, const char *x, char *y, int64_t rows, int64_t columns) {
  int64_t from = type_bytes(t->from), to = type_bytes(t->to);
  int floats = (t->from == FM_F32 || t->from == FM_BF16) && (t->to == FM_F32 || t->to == FM_BF16);
  if (!(t->from == t->to && (from == 4 || from == 2)) && !floats) {
    for (int64_t i = 0; i < rows; i++)
      move_row(t->from, x + i * from, t->x_step, t->to, y + i * t->y_step * to, 1, columns);
    return;
  }
  uint32_t lines[TILE * STRIP], turned[STRIP * TILE];
  for (int64_t i = 0; i < rows; i += STRIP) {
    int64_t n = rows - i < STRIP ? rows - i : STRIP;
    const char *p = x + i * from;
    char *q = y + i * t->y_step * to;
    if (from == 2 && to == 2) {
      uint16_t *half = (uint16_t *)lines;
      for (int64_t j = 0; j < columns; j++) memcpy(half + j * STRIP, p + j * t->x_step * 2, (size_t)n * 2);
      transpose_uint16_t(half, STRIP, (uint16_t *)q, t->y_step, n, columns);
      continue;
    }
    for (int64_t j = 0; j < columns; j++) {
      if (from == 4) memcpy(lines + j * STRIP, p + j * t->x_step * 4, (size_t)n * 4);
      else move_row(FM_BF16, p + j * t->x_step * 2, 1, FM_F32, lines + j * STRIP, 1, n);
    }
    if (to == 4) { transpose_uint32_t(lines, STRIP, (uint32_t *)q, t->y_step, n, columns); continue; }
    transpose_uint32_t(lines, STRIP, turned, TILE, n, columns);
    for (int64_t k = 0; k < n; k++) move_row(FM_F32, turned + k * TILE, 1, FM_BF16, q + k * t->y_step * 2, 1, columns);
  }
}

// Here the layout's two innermost axes count tiles, not elements.
static void transpose_row(const void *context, const fm_layout *l, const int64_t *offset, int64_t n) {
  const copy_task *t = context;
  int inner = l->rank - 1;
  int64_t x = offset[0], y = offset[1];
  // The rows left in this band of tiles, and the columns left after each: from the tile counters in operand 2.
  int64_t band = offset[2] / l->shape[inner] % l->shape[inner - 1], column = offset[2] % l->shape[inner];
  int64_t rows = t->tile_rows - band * TILE < TILE ? t->tile_rows - band * TILE : TILE;
  for (int64_t k = 0; k < n; k++, column++) {
    int64_t columns = t->tile_columns - column * TILE < TILE ? t->tile_columns - column * TILE : TILE;
    transpose_tile(t, t->x + x * type_bytes(t->from), t->y + y * type_bytes(t->to), rows, columns);
    x += l->stride[0][inner];
    y += l->stride[1][inner];
  }
}

static void swap_axes(fm_layout *l, int a, int b) {
  int64_t shape = l->shape[a];
  l->shape[a] = l->shape[b];
  l->shape[b] = shape;
  for (int k = 0; k < l->operands; k++) {
    int64_t stride = l->stride[k][a];
    l->stride[k][a] = l->stride[k][b];
    l->stride[k][b] = stride;
  }
}

// y's innermost axis is last and contiguous; x is contiguous along `axis`: moves that axis next to the last and goes by tiles.
static void copy_transposed(fm_layout *l, int axis, copy_task *t) {
  int inner = l->rank - 1;
  for (int d = axis; d < inner - 1; d++) swap_axes(l, d, d + 1);
  t->tile_rows = l->shape[inner - 1];
  t->tile_columns = l->shape[inner];
  t->x_step = l->stride[0][inner];
  t->y_step = l->stride[1][inner - 1];
  l->operands = 3;
  int64_t tiles = 1;
  for (int d = inner; d >= 0; d--) {
    if (d >= inner - 1) {
      l->shape[d] = (l->shape[d] + TILE - 1) / TILE;
      l->stride[0][d] *= TILE;
      l->stride[1][d] *= TILE;
    }
    l->stride[2][d] = tiles;
    tiles *= l->shape[d];
  }
  // Each item is one band of tiles: enough of them to share out, each at least a tile of work.
  fm_row_walk w = {.layout = l, .body = transpose_row, .context = t, .rows = tiles / l->shape[inner], .rows_per_item = 1,
                   .chunks = 1, .chunk = l->shape[inner]};
  if (tiles <= 4) { w.rows_per_item = w.rows; fm_walk_item(&w, 0); return; }
  // A single band is cut instead, so that wide and low matrices are shared out as well.
  if (w.rows < 16) { w.chunk = 4; w.chunks = (l->shape[inner] + 3) / 4; }
  fm_parallel(w.rows * w.chunks, fm_walk_item, &w);
}

static int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

void fm_copy(int rank, const int64_t *shape, fm_type from, const void *x, const int64_t *x_stride, fm_type to, void *y,
             const int64_t *y_stride) {
  fm_layout l = {.rank = rank, .operands = 2};
  for (int d = 0; d < rank; d++) {
    l.shape[d] = shape[d];
    l.stride[0][d] = x_stride[d];
    l.stride[1][d] = y_stride[d];
  }
  copy_task t = {.from = from, .to = to, .x = x, .y = y};
  int64_t count = fm_layout_collapse(&l);
  if (count == 0) return;
  // Longest steps of y outermost, so that it is written in order; then neighbours may join again.
  for (int d = 1; d < l.rank; d++)
    for (int e = d; e > 0 && magnitude(l.stride[1][e - 1]) < magnitude(l.stride[1][e]); e--) swap_axes(&l, e - 1, e);
  fm_layout_collapse(&l);
  int inner = l.rank - 1;
  if (l.stride[1][inner] == 1 && l.stride[0][inner] != 1 && l.stride[0][inner] != 0 && l.shape[inner] >= 4)
    for (int d = 0; d < inner; d++)
      if (l.stride[0][d] == 1 && l.shape[d] >= 4) { copy_transposed(&l, d, &t); return; }
  fm_for_each_row(&l, count, copy_row, &t);
}

typedef struct {
  fm_type type;
  char *y;
  double start, step;
  int64_t count;
} ramp_task;

static void put_double(fm_type type, void *y, int64_t i, double v) {
  if (type == FM_F32 || type == FM_BF16) put_float(type, y, i, (float)v);
  else put_integer(type, y, i, v != v ? 0 : v >= 0x1p63 ? INT64_MAX : v <= -0x1p63 ? INT64_MIN : (int64_t)v);
}

static void fill_item(void *context, int64_t item) {
  const ramp_task *t = context;
  int64_t first = item * FM_GRAIN, bytes = type_bytes(t->type);
  int64_t n = t->count - first < FM_GRAIN ? t->count - first : FM_GRAIN;
  char *y = t->y + first * bytes;
  uint64_t value = 0;
  put_double(t->type, &value, 0, t->start);
  if (value == 0) { memset(y, 0, (size_t)(n * bytes)); return; }
  if (bytes == 1) memset(y, (int)value, (size_t)n);
  else if (bytes == 2) for (int64_t i = 0; i < n; i++) ((uint16_t *)y)[i] = (uint16_t)value;
  else if (bytes == 4) for (int64_t i = 0; i < n; i++) ((uint32_t *)y)[i] = (uint32_t)value;
  else for (int64_t i = 0; i < n; i++) ((uint64_t *)y)[i] = value;
}

static void iota_item(void *context, int64_t item) {
  const ramp_task *t = context;
  int64_t first = item * FM_GRAIN, last = t->count - first < FM_GRAIN ? t->count : first + FM_GRAIN;
  for (int64_t i = first; i < last; i++) put_double(t->type, t->y, i, t->start + (double)i * t->step);
}

static void run_ramp(ramp_task *t, void (*body)(void *, int64_t)) {
  int64_t items = (t->count + FM_GRAIN - 1) / FM_GRAIN;
  if (items <= 2) for (int64_t i = 0; i < items; i++) body(t, i);
  else fm_parallel(items, body, t);
}

void fm_fill(fm_type type, void *y, double value, int64_t count) {
  ramp_task t = {type, y, value, 0, count};
  run_ramp(&t, fill_item);
}

void fm_iota(fm_type type, void *y, double start, double step, int64_t count) {
  ramp_task t = {type, y, start, step, count};
  run_ramp(&t, iota_item);
}

typedef struct {
  const char *table;
  int64_t row_bytes, rows_per_item, count;
  const int32_t *indices;
  char *y;
} gather_task;

static void gather_item(void *context, int64_t item) {
  const gather_task *t = context;
  int64_t first = item * t->rows_per_item;
  int64_t last = first + t->rows_per_item < t->count ? first + t->rows_per_item : t->count;
  for (int64_t i = first; i < last; i++)
    memcpy(t->y + i * t->row_bytes, t->table + t->indices[i] * t->row_bytes, (size_t)t->row_bytes);
}

int64_t fm_gather_rows(const void *table, int64_t table_rows, int64_t row_bytes, const int32_t *indices, int64_t count,
                       void *y) {
  for (int64_t i = 0; i < count; i++)
    if (indices[i] < 0 || indices[i] >= table_rows) return i;
  if (row_bytes <= 0 || count <= 0) return -1;
  gather_task t = {table, row_bytes, 0, count, indices, y};
  t.rows_per_item = row_bytes >= 65536 ? 1 : 65536 / row_bytes;
  if (count * row_bytes <= 131072) t.rows_per_item = count;
  fm_parallel((count + t.rows_per_item - 1) / t.rows_per_item, gather_item, &t);
  return -1;
}

typedef struct {
  float *y;
  int64_t table_rows, width, count, parts;
  fm_type type;
  const char *x;
  const int32_t *indices;
} scatter_task;

// Part k owns the table rows that leave k when divided by the number of parts: each row is summed by one thread, in order.
static void scatter_item(void *context, int64_t part) {
  const scatter_task *t = context;
  int64_t bytes = type_bytes(t->type);
  for (int64_t i = 0; i < t->count; i++) {
    int32_t row = t->indices[i];
    if (row < 0 || row >= t->table_rows || (uint32_t)row % (uint32_t)t->parts != (uint32_t)part) continue;
    FM_CALL(add_row)(t->type, t->x + i * t->width * bytes, t->y + row * t->width, t->width);
  }
}

void fm_scatter_add_rows(float *y, int64_t table_rows, int64_t width, fm_type type, const void *x, const int32_t *indices,
                         int64_t count) {
  if (count <= 0 || width <= 0) return;
  int64_t parts = count * width <= 2 * FM_GRAIN ? 1 : 4 * (int64_t)fm_threads();
  scatter_task t = {y, table_rows, width, count, parts, type, x, indices};
  if (parts == 1) scatter_item(&t, 0); else fm_parallel_dynamic(parts, scatter_item, &t);
}
#endif
