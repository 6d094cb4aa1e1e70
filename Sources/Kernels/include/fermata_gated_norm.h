// Root mean square norm of gated values over groups of features, with a skip (Mamba-2's read-out, Dao & Gu 2024):
//
//   u = x + skip v,   s = u silu(gate),   y = s / sqrt(mean over the group of s^2 + epsilon) weight
#ifndef FERMATA_GATED_NORM_H
#define FERMATA_GATED_NORM_H
#include "fermata_runtime.h"

typedef struct {
  fm_type type;  // of x, v, gate, y and their gradients; everything else is f32
  int64_t rows, width, groups, heads;  // groups and heads divide the width and lie together
  const void *x, *v, *gate;            // (rows, width), last axis contiguous
  int64_t x_stride, v_stride, gate_stride;  // elements from row to row
  const float *skip;    // (heads): one for all features of a head
  const float *weight;  // (width)
  float epsilon;
} fm_gated_norm_shape;

/// y contiguous; inverse_rms (rows, groups) is kept for the backward. -1 when there is no memory for scratch of some rows.
int fm_gated_norm(const fm_gated_norm_shape *shape, void *y, float *inverse_rms);

/// Gradients, contiguous, overwritten.
typedef struct {
  void *dx, *dv, *dgate;
  float *dskip, *dweight;
} fm_gated_norm_gradients;

/// dy is contiguous.
int fm_gated_norm_backward(const fm_gated_norm_shape *shape, const float *inverse_rms, const void *dy,
                           const fm_gated_norm_gradients *gradients);
#endif
