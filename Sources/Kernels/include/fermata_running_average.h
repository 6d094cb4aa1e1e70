// Prefix averages with weights e^s: attention with a query that no input changes, as a recurrence (Feng et al. 2024).
//
//   L_t = log(e^{L_{t-1}} + e^{s_t}),  w_t = e^{s_t - L_t},  a_t = a_{t-1} + w_t (v_t - a_{t-1}) = sum over i <= t of e^{s_i - L_t} v_i
//
// L is the paper's m + log of its normaliser and a its o over it, so nothing overflows. Empty: L = -infinity, a = 0.
#ifndef FERMATA_RUNNING_AVERAGE_H
#define FERMATA_RUNNING_AVERAGE_H
#include "fermata_runtime.h"

typedef struct {
  fm_type type;
  int64_t batch, length, heads, width;  // `width` features a head
  const uint8_t *resets;                // (batch, length) or NULL: L and a are emptied before that token
  const uint8_t *valid;                 // (batch, length) or NULL: a token with 0 weighs nothing
} fm_running_average_shape;

/// scores (batch, length, heads) f32; values and averages (batch, length, heads, width) of `type`, contiguous;
/// normalizer (batch, heads) and average (batch, heads, width) f32 hold L and a before and, on return, after the piece.
/// normalizers (batch, length, heads) f32 receives every L_t for the backward, or is NULL.
void fm_running_average(const fm_running_average_shape *shape, const float *scores, const void *values, float *normalizer,
                        float *average, void *averages, float *normalizers);
/// Reads the forward's averages and normalizers and the initial state; daverages may be NULL (zeros). dnormalizer and daverage
/// hold the final state's gradients and, on return, the initial one's. dscores and dvalues receive the inputs'.
void fm_running_average_backward(const fm_running_average_shape *shape, const float *scores, const void *values,
                                 const float *normalizer, const float *average, const void *averages,
                                 const float *normalizers, const void *daverages, float *dnormalizer, float *daverage,
                                 float *dscores, void *dvalues);
#endif
