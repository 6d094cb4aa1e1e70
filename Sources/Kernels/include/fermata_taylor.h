// Features whose product is the Taylor series of an exponential to second order (Arora et al. 2024):
//
//   y = x / width^(1/4),   f(x) = (1, y_i, y_i y_j c_ij for i <= j),   c_ii = 1 / sqrt(2), else 1
//   f(q) . f(k) = 1 + s + s^2 / 2,   s = q . k / sqrt(width)
#ifndef FERMATA_TAYLOR_H
#define FERMATA_TAYLOR_H
#include "fermata_runtime.h"

/// The largest width.
#define FM_TAYLOR_WIDEST 64
/// Features of a width: 1 + width + width (width + 1) / 2.
static inline int64_t fm_taylor_width(int64_t width) { return 1 + width + width * (width + 1) / 2; }

/// x (rows, width), contiguous, to features (rows, fm_taylor_width(width)), both of one type.
void fm_taylor(fm_type type, const void *x, void *features, int64_t rows, int64_t width);
/// dx (rows, width) from x and dfeatures.
void fm_taylor_backward(fm_type type, const void *x, const void *dfeatures, void *dx, int64_t rows, int64_t width);
#endif
