// Fused gated activations.
#ifndef FERMATA_ACTIVATION_H
#define FERMATA_ACTIVATION_H
#include "fermata_runtime.h"

/// SwiGLU (Shazeer 2020): y = silu(g) u where x (rows, 2 width) holds g then u in each row; y is (rows, width).
void fm_swiglu(fm_type type, const void *x, void *y, int64_t rows, int64_t width);
/// dx (rows, 2 width) from x and dy (rows, width).
void fm_swiglu_backward(fm_type type, const void *x, const void *dy, void *dx, int64_t rows, int64_t width);
#endif
