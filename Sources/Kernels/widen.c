// Numbers of types that only files have, as f32: plain loops that compilers turn into vectors.
#include "fermata_widen.h"
#ifdef FM_VARIANT
static void FM(widen_half)(const char *x, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    uint16_t h;
    memcpy(&h, x + 2 * i, 2);
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, bits = (uint32_t)(h & 0x7fff) << 13;
    // Moved 112 exponents up by a product, subnormal numbers come out right as well; infinities and NaN need the top exponent.
    float value;
    memcpy(&value, &bits, 4);
    value *= 0x1p112f;
    memcpy(&bits, &value, 4);
    bits |= (h & 0x7c00) == 0x7c00 ? 0x7f800000 : 0;
    bits |= sign;
    memcpy(y + i, &bits, 4);
  }
}

static void FM(widen_double)(const char *x, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    double value;
    memcpy(&value, x + 8 * i, 8);
    y[i] = (float)value;
  }
}

#else
#define FM_FILE "../widen.c"
#include "support/each_variant.h"

enum { WIDEN_BLOCK = 1 << 16 };

typedef struct { fm_file_type type; const char *x; float *y; int64_t count; } widen_job;

static void widen_block(void *context, int64_t index) {
  const widen_job *job = context;
  int64_t first = index * WIDEN_BLOCK, n = job->count - first < WIDEN_BLOCK ? job->count - first : WIDEN_BLOCK;
  if (job->type == FM_HALF) FM_CALL(widen_half)(job->x + 2 * first, job->y + first, n);
  else FM_CALL(widen_double)(job->x + 8 * first, job->y + first, n);
}

void fm_widen(fm_file_type type, const void *x, float *y, int64_t count) {
  widen_job job = {type, x, y, count};
  fm_parallel((count + WIDEN_BLOCK - 1) / WIDEN_BLOCK, widen_block, &job);
}
#endif
