// Cross-entropy over rows of logits, the inner step of the fused head that never keeps all logits.
#ifndef FERMATA_CROSS_ENTROPY_H
#define FERMATA_CROSS_ENTROPY_H
#include "fermata_runtime.h"

/// For each row: loss = log(sum exp(logits)) - logits[target], f32; rows whose target is negative give 0.
/// With gradient_scale != 0 the logits are overwritten by gradient_scale * weight * (softmax - onehot) (zero for ignored rows),
/// where weight is row_weight[row], or 1 when row_weight is NULL.
/// logits (rows, vocabulary) f32; losses (rows); gradient_bf16, when not NULL, receives the gradient instead, as bf16.
void fm_cross_entropy_rows(float *logits, const int32_t *targets, const float *row_weight, float gradient_scale,
                           float *losses, uint16_t *gradient_bf16, int64_t rows, int64_t vocabulary);
#endif
