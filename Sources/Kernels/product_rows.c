// Products of one to four rows with a matrix whose columns are contiguous, y = x W^T with W (columns, inner):
// the time is that of reading W, so each thread streams its share of W once.
#include "fermata_product.h"
#ifdef FM_VARIANT

// Sums[r][k] = dot(row r of a, column k of b) for ROWS rows and 4 columns.
FM_INLINE void FM(dot_block)(fm_type type, int rows, int columns, const char *a, int64_t a_step, const char *b, int64_t b_step,
                             int64_t inner, float sums[4][4]) {
  vf s[4][4];
  for (int r = 0; r < rows; r++)
    for (int k = 0; k < columns; k++) s[r][k] = FM(v_set)(0);
  int64_t bytes = type == FM_BF16 ? 2 : 4, i = 0;
#if FM_BF16_INSTRUCTIONS
  if (type == FM_BF16) {
    // 32 products of bf16 pairs an instruction.
    for (; i + 32 <= inner; i += 32) {
      __m512bh x[4];
      for (int r = 0; r < rows; r++) memcpy(&x[r], a + (r * a_step + i) * 2, 64);
      for (int k = 0; k < columns; k++) {
        __m512bh w;
        memcpy(&w, b + (k * b_step + i) * 2, 64);
        for (int r = 0; r < rows; r++) s[r][k] = (vf)_mm512_dpbf16_ps((__m512)s[r][k], x[r], w);
      }
    }
  }
#endif
  for (; i + FM_LANES <= inner; i += FM_LANES)
    for (int k = 0; k < columns; k++) {
      vf w = FM(v_read)(type, b + k * b_step * bytes, i);
      for (int r = 0; r < rows; r++) s[r][k] = FM(v_fma)(FM(v_read)(type, a + r * a_step * bytes, i), w, s[r][k]);
    }
  if (i < inner)
    for (int k = 0; k < columns; k++) {
      vf w = FM(v_read_n)(type, b + k * b_step * bytes, i, inner - i);
      for (int r = 0; r < rows; r++)
        s[r][k] = FM(v_fma)(FM(v_read_n)(type, a + r * a_step * bytes, i, inner - i), w, s[r][k]);
    }
  for (int r = 0; r < rows; r++)
    for (int k = 0; k < columns; k++) sums[r][k] = FM(v_sum)(s[r][k]);
}

FM_INLINE void FM(put)(fm_type type, void *c, int64_t i, float value, int accumulate) {
  if (accumulate) value += FM(v_read_n)(type, c, i, 1)[0];
  FM(v_write_n)(type, c, i, FM(v_set)(value), 1);
}

// Columns first ..< last of one batch.
FM_INLINE void FM(columns_loop)(const fm_product_shape *p, fm_type type, int rows, const char *a, const char *b, void *c,
                                int64_t first, int64_t last) {
  int64_t bytes = type == FM_BF16 ? 2 : 4;
  float sums[4][4];
  for (int64_t j = first; j < last; j += 4) {
    const char *column = b + j * p->b_stride[2] * bytes;
    int n = last - j < 4 ? (int)(last - j) : 4;
    if (n == 4) {
      FM(dot_block)(type, rows, 4, a, p->a_stride[1], column, p->b_stride[2], p->inner, sums);
    } else {
      for (int k = 0; k < n; k++) {
        float one[4][4];
        FM(dot_block)(type, rows, 1, a, p->a_stride[1], column + k * p->b_stride[2] * bytes, p->b_stride[2], p->inner, one);
        for (int r = 0; r < rows; r++) sums[r][k] = one[r][0];
      }
    }
    for (int r = 0; r < rows; r++)
      for (int k = 0; k < n; k++) FM(put)(p->output_type, c, r * p->c_stride[1] + j + k, sums[r][k], p->accumulate);
  }
}

static void FM(few_rows)(const fm_product_shape *p, const char *a, const char *b, void *c, int64_t first, int64_t last) {
#define CASE(rows)                                                                                      \
  case rows:                                                                                            \
    if (p->input_type == FM_BF16) FM(columns_loop)(p, FM_BF16, rows, a, b, c, first, last);             \
    else FM(columns_loop)(p, FM_F32, rows, a, b, c, first, last);                                       \
    break;
  switch (p->rows) { CASE(1) CASE(2) CASE(3) CASE(4) }
#undef CASE
}

#else
#define FM_FILE "../product_rows.c"
#include "support/each_variant.h"
#include "support/product_rows.h"

typedef struct {
  const fm_product_shape *shape;
  const char *a, *b;
  char *c;
  int64_t blocks, block;
} rows_task;

static void rows_item(void *context, int64_t item) {
  const rows_task *t = context;
  const fm_product_shape *p = t->shape;
  int64_t batch = item / t->blocks, first = item % t->blocks * t->block;
  int64_t last = first + t->block < p->columns ? first + t->block : p->columns;
  int64_t in = p->input_type == FM_BF16 ? 2 : 4, out = p->output_type == FM_BF16 ? 2 : 4;
  FM_CALL(few_rows)(p, t->a + batch * p->a_stride[0] * in, t->b + batch * p->b_stride[0] * in,
                    t->c + batch * p->c_stride[0] * out, first, last);
}

int fm_product_suits_few_rows(const fm_product_shape *p) {
  return p->rows <= 4 && p->b_stride[1] == 1 && p->a_stride[2] == 1;
}

void fm_product_few_rows(const fm_product_shape *p, const void *a, const void *b, void *c) {
  // About 64 KiB of b at a time, in multiples of 4 columns; small products stay on the calling thread.
  int64_t block = (16384 / p->inner + 4) & ~3ll;
  if (p->batch * p->inner * p->columns <= 32768) block = p->columns;
  rows_task t = {p, a, b, c, (p->columns + block - 1) / block, block};
  fm_parallel(p->batch * t.blocks, rows_item, &t);
}
#endif
