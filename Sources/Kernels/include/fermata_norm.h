// Normalisation over the last axis. Rows are contiguous: (rows, width).
#ifndef FERMATA_NORM_H
#define FERMATA_NORM_H
#include "fermata_runtime.h"

/// RMS norm (Zhang & Sennrich 2019): y = x / sqrt(mean(x^2) + epsilon) * weight.
/// `type` is that of x and y; weight (width) is f32 and may be NULL (all ones).
/// inverse_rms (rows), f32, is kept for the backward; it may be NULL.
void fm_rms_norm(fm_type type, const void *x, const float *weight, void *y, float *inverse_rms,
                 int64_t rows, int64_t width, float epsilon);
/// dx (type) and dweight (width, f32; overwritten; NULL when weight is NULL) from dy (type), x and inverse_rms.
void fm_rms_norm_backward(fm_type type, const void *x, const float *weight, const float *inverse_rms, const void *dy,
                          void *dx, float *dweight, int64_t rows, int64_t width);

/// Layer norm (Ba et al. 2016): y = (x - mean) / sqrt(variance + epsilon) * weight + bias.
/// weight and bias (width) are f32 and may be NULL; mean and inverse_deviation (rows), f32, may be NULL.
void fm_layer_norm(fm_type type, const void *x, const float *weight, const float *bias, void *y, float *mean,
                   float *inverse_deviation, int64_t rows, int64_t width, float epsilon);
/// dweight and dbias (width, f32; overwritten) may be NULL.
void fm_layer_norm_backward(fm_type type, const void *x, const float *weight, const float *mean,
                            const float *inverse_deviation, const void *dy, void *dx, float *dweight, float *dbias,
                            int64_t rows, int64_t width);

/// Softmax over the last axis, in place allowed (y == x); and its backward dx = y (dy - sum(dy y)).
void fm_softmax(fm_type type, const void *x, void *y, int64_t rows, int64_t width);
void fm_softmax_backward(fm_type type, const void *y, const void *dy, void *dx, int64_t rows, int64_t width);
#endif
