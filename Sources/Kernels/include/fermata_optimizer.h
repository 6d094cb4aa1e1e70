// Fused optimiser steps over flat f32 arrays.
#ifndef FERMATA_OPTIMIZER_H
#define FERMATA_OPTIMIZER_H
#include "fermata_runtime.h"

typedef struct {
  float learning_rate, beta1, beta2, epsilon, weight_decay;
  /// 1 - beta1^step and 1 - beta2^step
  float correction1, correction2;
  /// Gradients are multiplied by this first (clipping, accumulation).
  float gradient_scale;
} fm_adamw_options;

/// AdamW (Loshchilov & Hutter 2019), as PyTorch orders it: p -= lr wd p; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
/// p -= lr (m / c1) / (sqrt(v) / sqrt(c2) + epsilon).
void fm_adamw(float *parameter, const float *gradient, float *first_moment, float *second_moment, int64_t count,
              fm_adamw_options options);
/// Sum of squares in f64, in a fixed order of blocks (independent of threads).
double fm_sum_of_squares(const float *x, int64_t count);
#endif
