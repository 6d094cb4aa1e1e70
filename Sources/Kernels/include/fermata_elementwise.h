// Element-wise operations, reductions, copies, gathers and random numbers.
#ifndef FERMATA_ELEMENTWISE_H
#define FERMATA_ELEMENTWISE_H
#include "fermata_runtime.h"

#define FM_MAX_RANK 8

typedef enum {
  FM_NEGATE, FM_ABSOLUTE, FM_EXP, FM_LOG, FM_LOG1P, FM_SQRT, FM_RECIPROCAL_SQRT, FM_RECIPROCAL, FM_SQUARE,
  FM_SIGMOID, FM_LOG_SIGMOID, FM_TANH, FM_SILU, FM_SOFTPLUS, FM_RELU, FM_GELU, FM_GELU_TANH, FM_SINE, FM_COSINE, FM_SIGN,
  FM_ERF,
  FM_GELU_SLOPE,  // the derivative of FM_GELU
  FM_SILU_SLOPE,
  FM_ELU_PLUS_ONE, FM_ELU_PLUS_ONE_SLOPE,  // x + 1 above zero, e^x below
} fm_unary;

typedef enum {
  FM_ADD, FM_SUBTRACT, FM_MULTIPLY, FM_DIVIDE, FM_MAXIMUM, FM_MINIMUM, FM_POWER,
  // comparisons write u8 0 or 1
  FM_EQUAL, FM_NOT_EQUAL, FM_LESS, FM_LESS_EQUAL,
} fm_binary;

typedef enum { FM_SUM, FM_MAX, FM_MIN } fm_reduction;

/// y[i] = op(x[i]), contiguous, f32 or bf16 (computed in f32). May be in place.
void fm_unary_apply(fm_unary op, fm_type type, const void *x, void *y, int64_t count);
/// y = op(a, b), y contiguous in `shape`; strides in elements, 0 broadcasts. f32, bf16, i32, i64 (u8 for comparisons).
void fm_binary_apply(fm_binary op, fm_type type, int rank, const int64_t *shape, const void *a, const int64_t *a_stride,
                     const void *b, const int64_t *b_stride, void *y);
/// y = op(x, scalar) for contiguous f32 or bf16; reversed computes op(scalar, x).
void fm_scalar_apply(fm_binary op, fm_type type, const void *x, float scalar, int reversed, void *y, int64_t count);
/// y = condition ? a : b with broadcasting; condition is u8.
void fm_select(fm_type type, int rank, const int64_t *shape, const uint8_t *condition, const int64_t *c_stride,
               const void *a, const int64_t *a_stride, const void *b, const int64_t *b_stride, void *y);
/// Copies x with strides to y with strides, converting between element types. Casts to integers truncate and saturate.
void fm_copy(int rank, const int64_t *shape, fm_type from, const void *x, const int64_t *x_stride, fm_type to, void *y,
             const int64_t *y_stride);
/// Fills y with a value.
void fm_fill(fm_type type, void *y, double value, int64_t count);
/// y[i] = start + i * step
void fm_iota(fm_type type, void *y, double start, double step, int64_t count);
/// y (outer, inner) = reduction of x (outer, axis, inner) over axis, contiguous, f32 accumulation in a fixed order; f32, bf16, i32 and i64.
void fm_reduce(fm_reduction op, fm_type type, const void *x, void *y, int64_t outer, int64_t axis, int64_t inner);
/// Index (i32) of the first maximum over the axis.
void fm_argmax(fm_type type, const void *x, int32_t *y, int64_t outer, int64_t axis, int64_t inner);
/// Running sum along the axis; reverse runs from the end.
void fm_cumulative_sum(fm_type type, const void *x, void *y, int64_t outer, int64_t axis, int64_t inner, int reverse);
/// y[i, :] = table[indices[i], :], rows of `row_bytes`. Returns the first bad i, or -1 when all indices are inside 0..<table_rows.
int64_t fm_gather_rows(const void *table, int64_t table_rows, int64_t row_bytes, const int32_t *indices, int64_t count,
                       void *y);
/// y (table_rows, width) f32 += x rows (f32 or bf16) at indices, in order of i: deterministic for any thread count.
void fm_scatter_add_rows(float *y, int64_t table_rows, int64_t width, fm_type type, const void *x, const int32_t *indices,
                         int64_t count);
/// 1 when some value is NaN or infinite.
int fm_has_non_finite(fm_type type, const void *x, int64_t count);

/// Philox 4x32-10 (Salmon et al. 2011). Element i of stream (seed, stream) depends on nothing else: value i of the
/// counter block i / 4, lane i % 4, so any slice can be drawn alone and by any number of threads.
void fm_random_bits(uint64_t seed, uint64_t stream, uint64_t first, uint32_t *y, int64_t count);
/// Uniform in [0, 1): bits >> 8 times 2^-24.
void fm_random_uniform(uint64_t seed, uint64_t stream, uint64_t first, float *y, int64_t count);
/// Standard normal by Box-Muller on pairs of draws (2i, 2i + 1).
void fm_random_normal(uint64_t seed, uint64_t stream, uint64_t first, float *y, int64_t count);
#endif
