// Matrix products: which way each goes.
#include "fermata_product.h"
#include "fermata_elementwise.h"
#include "support/product_primitives.h"
#include "support/product_rows.h"
#include <string.h>

static int64_t type_bytes(fm_type type) { return type == FM_BF16 ? 2 : 4; }
static const char *offset(const void *base, fm_type type, int64_t i) { return (const char *)base + i * type_bytes(type); }

// bf16 without oneDNN's bf16: converts a block of rows and one b to f32, multiplies those, and rounds the result.
#define ROW_BLOCK 1024

static int convert(int64_t rows, int64_t columns, fm_type from, const void *x, const int64_t *stride, fm_type to, void *y,
                   const int64_t *y_stride) {
  if (!y) return -2;
  fm_copy(2, (int64_t[]){rows, columns}, from, x, stride, to, y, y_stride);
  return 0;
}

static int product_through_f32(const fm_product_shape *s, const void *a, const void *b, void *c) {
  int64_t block = s->rows < ROW_BLOCK ? s->rows : ROW_BLOCK;
  float *wide_a = product_scratch(0, 4 * (size_t)(block * s->inner));
  float *wide_b = product_scratch(1, 4 * (size_t)(s->inner * s->columns));
  float *wide_c = s->output_type == FM_BF16 ? product_scratch(2, 4 * (size_t)(block * s->columns)) : NULL;
  const int64_t dense_c[] = {s->columns, 1}, a_rows[] = {s->inner, 1};
  // b keeps its own order, so that the conversion is not a transpose.
  const int64_t b_rows[] = {s->b_stride[2] == 1 ? s->columns : 1, s->b_stride[2] == 1 ? 1 : s->inner};
  for (int64_t i = 0; i < s->batch; i++) {
    int failed = 0;
    if (i == 0 || s->b_stride[0] != 0)
      failed = convert(s->inner, s->columns, FM_BF16, offset(b, FM_BF16, i * s->b_stride[0]), s->b_stride + 1, FM_F32, wide_b, b_rows);
    for (int64_t r = 0; r < s->rows && !failed; r += block) {
      int64_t n = s->rows - r < block ? s->rows - r : block;
      failed = convert(n, s->inner, FM_BF16, offset(a, FM_BF16, i * s->a_stride[0] + r * s->a_stride[1]), s->a_stride + 1, FM_F32,
                       wide_a, a_rows);
      char *target = (char *)offset(c, s->output_type, i * s->c_stride[0] + r * s->c_stride[1]);
      if (!failed && s->output_type == FM_BF16 && s->accumulate)
        failed = convert(n, s->columns, FM_BF16, target, s->c_stride + 1, FM_F32, wide_c, dense_c);
      fm_product_shape wide = {FM_F32, FM_F32, 1, n, s->inner, s->columns, {0, s->inner, 1}, {0, b_rows[0], b_rows[1]},
                               {0, s->output_type == FM_BF16 ? s->columns : s->c_stride[1], 1}, s->accumulate};
      if (!failed) failed = fm_product(&wide, wide_a, wide_b, s->output_type == FM_BF16 ? (void *)wide_c : target);
      if (!failed && s->output_type == FM_BF16)
        failed = convert(n, s->columns, FM_F32, wide_c, dense_c, FM_BF16, target, s->c_stride + 1);
    }
    if (failed) return failed;
  }
  return 0;
}

// The strides of axes of size 1 mean nothing: given values that make equal shapes equal and are valid to oneDNN.
static void normalise_operand(int64_t *stride, int64_t batch, int64_t rows, int64_t columns) {
  if (columns == 1 && rows == 1) { stride[1] = 1; stride[2] = 1; }
  else if (columns == 1) { if (stride[1] == 1) stride[2] = rows; else stride[2] = 1; }
  else if (rows == 1) { if (stride[2] == 1) stride[1] = columns; else stride[1] = 1; }
  if (batch == 1) stride[0] = 0;
}

static void normalise(fm_product_shape *s) {
  s->accumulate = s->accumulate != 0;
  s->c_stride[2] = 1;
  // Rows of all batches under one b are the rows of one product.
  int a_joins = s->rows == 1 || s->a_stride[0] == s->rows * s->a_stride[1];
  int c_joins = s->rows == 1 || s->c_stride[0] == s->rows * s->c_stride[1];
  if (s->batch > 1 && s->b_stride[0] == 0 && s->a_stride[0] != 0 && a_joins && c_joins && (s->a_stride[2] == 1 || s->inner == 1)) {
    if (s->rows == 1) { s->a_stride[1] = s->a_stride[0]; s->c_stride[1] = s->c_stride[0]; }
    s->rows *= s->batch;
    s->batch = 1;
  }
  normalise_operand(s->a_stride, s->batch, s->rows, s->inner);
  normalise_operand(s->b_stride, s->batch, s->inner, s->columns);
  if (s->rows == 1) s->c_stride[1] = s->columns;
  if (s->batch == 1) s->c_stride[0] = 0;
}

static void clear_output(const fm_product_shape *s, void *c) {
  for (int64_t i = 0; i < s->batch; i++)
    for (int64_t r = 0; r < s->rows; r++)
      memset((char *)c + (i * s->c_stride[0] + r * s->c_stride[1]) * type_bytes(s->output_type), 0,
             (size_t)(s->columns * type_bytes(s->output_type)));
}

int fm_product(const fm_product_shape *shape, const void *a, const void *b, void *c) {
  if (shape->batch <= 0 || shape->rows <= 0 || shape->columns <= 0) return 0;
  fm_product_shape s = *shape;
  if (s.inner <= 0) {
    if (!s.accumulate) clear_output(&s, c);
    return 0;
  }
  normalise(&s);
  if (fm_product_suits_few_rows(&s)) {
    fm_product_few_rows(&s, a, b, c);
    return 0;
  }
  if (s.input_type == FM_BF16 && fm_variant() < FM_AVX512) return product_through_f32(&s, a, b, c);
  product_key key = {PRODUCT_PLAIN, s};
  int result = product_run(&key, a, b, c);
  // A processor whose oneDNN has no bf16 product at all.
  if (result == -1 && s.input_type == FM_BF16) result = product_through_f32(&s, a, b, c);
  return result;
}

// ---- Packed right sides ----

static product_key packing(const fm_packed_matrix *m) {
  product_key key = {PRODUCT_PACK, {0}};
  key.shape.input_type = m->type;
  key.shape.output_type = m->source_type;
  key.shape.inner = m->inner;
  key.shape.columns = m->columns;
  key.shape.b_stride[1] = m->row_stride;
  key.shape.b_stride[2] = m->column_stride;
  return key;
}

int64_t fm_packed_bytes(const fm_packed_matrix *matrix) {
  if (matrix->inner <= 0 || matrix->columns <= 0) return 0;
  // On these paths bf16 is multiplied through f32 (product_through_f32).
  if (matrix->type == FM_BF16 && fm_variant() < FM_AVX512) return 0;
  // Measured on Zen 5: f32 gains 11 to 23% where b's columns are its rows in memory, next to nothing where they are not.
  if (matrix->type == FM_F32 && matrix->row_stride != 1) return 0;
  product_key key = packing(matrix);
  return product_packed_bytes(&key);
}

int fm_pack(const fm_packed_matrix *matrix, const void *b, void *packed) {
  product_key key = packing(matrix);
  return product_run(&key, b, NULL, packed);
}

int fm_product_packed(const fm_packed_matrix *matrix, int64_t rows, const void *a, const void *packed, fm_type output_type,
                      void *c) {
  if (rows <= 0) return 0;
  product_key key = {PRODUCT_PACKED, {matrix->type, output_type, 1, rows, matrix->inner, matrix->columns,
                                      {0, matrix->inner, 1}, {0, 0, 0}, {0, matrix->columns, 1}, 0}};
  return product_run(&key, a, packed, c);
}
