// Numbers of types that only files have, as f32.
#ifndef FERMATA_WIDEN_H
#define FERMATA_WIDEN_H
#include "fermata_runtime.h"

typedef enum { FM_HALF, FM_DOUBLE } fm_file_type;

/// y[i] = x[i] for IEEE 754 binary16 (exact; infinities and NaN stay) or binary64 (rounded). x may lie at any address.
void fm_widen(fm_file_type type, const void *x, float *y, int64_t count);
#endif
