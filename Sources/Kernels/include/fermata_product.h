// Layer-sized matrix products: the one seam to oneDNN.
#ifndef FERMATA_PRODUCT_H
#define FERMATA_PRODUCT_H
#include "fermata_runtime.h"

/// c = a b, batched: a (batch, rows, inner), b (batch, inner, columns), c (batch, rows, columns).
/// Strides in elements of (batch, row, column); a batch stride of 0 broadcasts. Of the last two strides of each of a and b one must be 1.
/// c's column stride is 1. accumulate adds to c instead of replacing it.
typedef struct {
  fm_type input_type, output_type;  // f32 x f32 -> f32, bf16 x bf16 -> f32 or bf16
  int64_t batch, rows, inner, columns;
  int64_t a_stride[3], b_stride[3], c_stride[3];
  int accumulate;
} fm_product_shape;

/// Returns 0, -1 when oneDNN refuses the shape, -2 when memory could not be had.
int fm_product(const fm_product_shape *shape, const void *a, const void *b, void *c);

/// A matrix b (inner, columns) that many products have as their right side, kept in the order of elements that oneDNN likes
/// best. The products' results are those of fm_product, bit for bit.
typedef struct {
  fm_type type;         // of the products, and so of the packed elements: f32 or bf16
  fm_type source_type;  // of b before: f32 or bf16
  int64_t inner, columns;
  int64_t row_stride, column_stride;  // of b before; one of them is 1
} fm_packed_matrix;

/// Bytes of b packed; 0 when reading b as it lies is as good, or all there is. Depends on the path.
int64_t fm_packed_bytes(const fm_packed_matrix *matrix);
/// Packs (and rounds) b into so many bytes. Returns as fm_product does.
int fm_pack(const fm_packed_matrix *matrix, const void *b, void *packed);
/// c (rows, columns) = a (rows, inner) b for row-major a and c, c in output_type. Returns as fm_product does.
int fm_product_packed(const fm_packed_matrix *matrix, int64_t rows, const void *a, const void *packed, fm_type output_type,
                      void *c);

/// Primitives created so far by this process (for guards: constant after warm-up).
int64_t fm_product_primitives_created(void);
#endif
