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
/// Primitives created so far by this process (for guards: constant after warm-up).
int64_t fm_product_primitives_created(void);
#endif
