#include "fermata_dropout.h"
#include "fermata_elementwise.h"

#ifdef FM_VARIANT
/// One stretch of features: y = bits >= threshold ? x * scale : 0.
static void FM(dropout_run)(fm_type type, const void *x, void *y, int64_t start, const uint32_t *bits, int64_t count,
                            uint32_t threshold, float scale) {
  vf factor = FM(v_set)(scale), zero = FM(v_set)(0);
  // Draws keep 24 bits, so that they compare as signed numbers.
  vi limit = FM(v_seti)((int32_t)threshold);
  for (int64_t i = 0; i < count; i += FM_LANES) {
    int64_t n = count - i < FM_LANES ? count - i : FM_LANES;
    vi draw = {0};
    memcpy(&draw, bits + i, 4 * (size_t)n);
    vi kept = (vi)(((draw >> 8) & FM(v_seti)(0xffffff)) >= limit);
    vf v = FM(v_read_n)(type, x, start + i, n);
    FM(v_write_n)(type, y, start + i, FM(v_select)(kept, v * factor, zero), n);
  }
}
#else
#define FM_FILE "../dropout.c"
#include "support/each_variant.h"

typedef struct {
  fm_type type;
  const void *x;
  void *y;
  int64_t length, width, first_position;
  uint64_t seed, stream;
  uint32_t threshold;
  float scale;
} dropout_task;

static void dropout_token(void *context, int64_t index) {
  const dropout_task *t = context;
  int64_t row = index / t->length, token = index % t->length;
  uint64_t first = (uint64_t)(t->first_position + token) * (uint64_t)t->width;
  uint32_t bits[512];
  for (int64_t start = 0; start < t->width; start += 512) {
    int64_t count = t->width - start < 512 ? t->width - start : 512;
    fm_random_bits(t->seed, t->stream + ((uint64_t)row << 32), first + (uint64_t)start, bits, count);
    FM_CALL(dropout_run)(t->type, t->x, t->y, index * t->width + start, bits, count, t->threshold, t->scale);
  }
}

void fm_dropout(fm_type type, const void *x, void *y, int64_t batch, int64_t length, int64_t width, float rate,
                uint64_t seed, uint64_t stream, int64_t first_position) {
  dropout_task task = {type, x, y, length, width, first_position, seed, stream, (uint32_t)(rate * 16777216.0f),
                       1.0f / (1.0f - rate)};
  fm_parallel(batch * length, dropout_token, &task);
}
#endif
