// Rotary position embedding (Su et al. 2021).
#ifndef FERMATA_ROTARY_H
#define FERMATA_ROTARY_H
#include "fermata_runtime.h"

/// Rotates x (batch, length, heads, width) by angle[position] = (position) * frequency, writing y (same shape, contiguous).
/// x's strides are in elements for (batch, length, head); its last axis is contiguous.
/// cosine and sine (batch or 1, length, rotary/2), f32; angle_batch_stride is 0 when shared by the batch.
/// rotary <= width, even: only the first `rotary` features turn, the others are copied.
/// interleaved 0: pairs (i, i + rotary/2) (GPT-NeoX, Llama in Hugging Face); 1: pairs (2i, 2i+1) (GPT-J).
/// direction +1 turns forwards, -1 backwards (the gradient).
void fm_rotary(fm_type type, const void *x, const int64_t stride[3], const float *cosine, const float *sine,
               int64_t angle_batch_stride, void *y, int64_t batch, int64_t length, int64_t heads, int64_t width,
               int64_t rotary, int interleaved, int direction);
#endif
