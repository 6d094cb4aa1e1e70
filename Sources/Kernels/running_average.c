// Running averages with exponential weights: one pass over the tokens of each row and head.
#include "fermata_running_average.h"
#include <math.h>

#ifdef FM_VARIANT
#include "support/scan_tile.h"

/// One head of one row, from the first token on.
static void FM(running_average)(void *context, int64_t index) {
  const running_average_call *call = context;
  const fm_running_average_shape *shape = &call->shape;
  int64_t b = index / shape->heads, head = index % shape->heads, width = shape->width;
  float *average = call->average + index * width, total = call->normalizer[index];
  for (int64_t t = 0; t < shape->length; t++) {
    int64_t token = b * shape->length + t, at = (token * shape->heads + head) * width;
    if (shape->resets && shape->resets[token]) {
      total = -INFINITY;
      memset(average, 0, sizeof(float) * (size_t)width);
    }
    float weight = 0;
    if (!shape->valid || shape->valid[token]) {
      float score = call->scores[token * shape->heads + head];
      total = running_average_log_sum(total, score);
      weight = expf(score - total);
    }
    for (int64_t x = 0; x < width; x += FM_LANES) {
      vf a = FM(scan_read_n)(FM_F32, average, x, width - x);
      // Written so that a weight that is no number reaches the average.
      if (!(weight == 0)) a += FM(v_set)(weight) * (FM(scan_read_n)(shape->type, call->values, at + x, width - x) - a);
      FM(scan_write_n)(FM_F32, average, x, a, width - x);
      FM(scan_write_n)(shape->type, call->averages, at + x, a, width - x);
    }
    if (call->normalizers) call->normalizers[token * shape->heads + head] = total;
  }
  call->normalizer[index] = total;
}

/// The gradients at one token: takes that of the average after it, in `daverage`, to that before it, and returns dw.
static float FM(running_average_unstep)(const running_average_call *call, int64_t at, const void *before, fm_type before_type,
                                        int64_t before_at, float weight, float kept, float *daverage) {
  int64_t width = call->shape.width;
  vf sum = FM(v_set)(0);
  for (int64_t x = 0; x < width; x += FM_LANES) {
    int64_t n = width - x;
    vf d = FM(scan_read_n)(FM_F32, daverage, x, n), v = FM(scan_read_n)(call->shape.type, call->values, at + x, n);
    if (before) v -= FM(scan_read_n)(before_type, before, before_at + x, n);
    sum = FM(v_fma)(d, v, sum);
    FM(scan_write_n)(call->shape.type, call->dvalues, at + x, FM(v_set)(weight) * d, n);
    FM(scan_write_n)(FM_F32, daverage, x, FM(v_set)(kept) * d, n);
  }
  return FM(v_sum)(sum);
}

/// One head of one row, from the last token back.
static void FM(running_average_back)(void *context, int64_t index) {
  const running_average_call *call = context;
  const fm_running_average_shape *shape = &call->shape;
  int64_t b = index / shape->heads, head = index % shape->heads, width = shape->width;
  float *daverage = call->daverage + index * width, dtotal = call->dnormalizer[index];
  for (int64_t t = shape->length - 1; t >= 0; t--) {
    int64_t token = b * shape->length + t, row = token * shape->heads + head, at = row * width;
    int reset = shape->resets && shape->resets[token];
    for (int64_t x = 0; call->daverages && x < width; x += FM_LANES) {
      vf d = FM(scan_read_n)(FM_F32, daverage, x, width - x) + FM(scan_read_n)(shape->type, call->daverages, at + x, width - x);
      FM(scan_write_n)(FM_F32, daverage, x, d, width - x);
    }
    if (shape->valid && !shape->valid[token]) {
      call->dscores[row] = 0;
      for (int64_t x = 0; x < width; x += FM_LANES) FM(scan_write_n)(shape->type, call->dvalues, at + x, FM(v_set)(0), width - x);
    } else {
      float previous = reset ? -INFINITY : t > 0 ? call->normalizers[row - shape->heads] : call->normalizer[index];
      float weight = expf(call->scores[row] - call->normalizers[row]), kept = expf(previous - call->normalizers[row]);
      const void *before = reset ? NULL : t > 0 ? call->averages : call->average;
      float dweight = FM(running_average_unstep)(call, at, before, t > 0 ? shape->type : FM_F32,
                                                 t > 0 ? at - shape->heads * width : index * width, weight, kept, daverage);
      float dahead = dweight * weight * kept;
      call->dscores[row] = dahead + dtotal * weight;
      dtotal = dtotal * kept - dahead;
    }
    if (reset) {
      dtotal = 0;
      memset(daverage, 0, sizeof(float) * (size_t)width);
    }
  }
  call->dnormalizer[index] = dtotal;
}

#else
#include <string.h>

typedef struct {
  fm_running_average_shape shape;
  const float *scores;
  const void *values, *daverages;
  float *normalizer, *average;  // the running ones; backward, the initial ones
  void *averages;
  float *normalizers, *dnormalizer, *daverage, *dscores;
  void *dvalues;
} running_average_call;

/// log(e^a + e^b), a possibly -infinity.
static float running_average_log_sum(float a, float b) { return fmaxf(a, b) + log1pf(expf(-fabsf(a - b))); }

#define FM_FILE "../running_average.c"
#include "support/each_variant.h"

void fm_running_average(const fm_running_average_shape *shape, const float *scores, const void *values, float *normalizer,
                        float *average, void *averages, float *normalizers) {
  running_average_call call = {.shape = *shape, .scores = scores, .values = values, .normalizer = normalizer,
                               .average = average, .averages = averages, .normalizers = normalizers};
  fm_parallel(shape->batch * shape->heads, FM_CALL(running_average), &call);
}

void fm_running_average_backward(const fm_running_average_shape *shape, const float *scores, const void *values,
                                 const float *normalizer, const float *average, const void *averages,
                                 const float *normalizers, const void *daverages, float *dnormalizer, float *daverage,
                                 float *dscores, void *dvalues) {
  running_average_call call = {.shape = *shape, .scores = scores, .values = values, .daverages = daverages,
                               .normalizer = (float *)normalizer, .average = (float *)average, .averages = (void *)averages,
                               .normalizers = (float *)normalizers, .dnormalizer = dnormalizer, .daverage = daverage,
                               .dscores = dscores, .dvalues = dvalues};
  fm_parallel(shape->batch * shape->heads, FM_CALL(running_average_back), &call);
}
#endif
