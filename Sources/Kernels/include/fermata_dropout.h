// Dropout (Srivastava et al. 2014) whose draws are tied to absolute position.
#ifndef FERMATA_DROPOUT_H
#define FERMATA_DROPOUT_H
#include "fermata_runtime.h"

/// y = x / (1 - rate) where a draw is at least rate, 0 elsewhere; x and y (batch, length, width), contiguous, f32 or bf16.
/// The draw for (row, token, feature) is element (first_position + token) * width + feature of the Philox stream
/// (seed, stream + row * 2^32): where a sequence is cut cannot change it, and a backward need not store it.
void fm_dropout(fm_type type, const void *x, void *y, int64_t batch, int64_t length, int64_t width, float rate,
                uint64_t seed, uint64_t stream, int64_t first_position);
#endif
