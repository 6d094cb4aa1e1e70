// Cross-entropy over rows of logits: loss, and the gradient in place or as bf16.
#include "fermata_cross_entropy.h"
#ifdef FM_VARIANT
// Largest logit and the sum of e^(logit - largest): two sweeps over a row that the cache still holds for the second.
FM_INLINE float FM(row_maximum)(const float *x, int64_t n) {
  vf top[4];
  for (int k = 0; k < 4; k++) top[k] = FM(v_set)(-INFINITY);
  int64_t i = 0;
  for (; i + 4 * FM_LANES <= n; i += 4 * FM_LANES)
    for (int k = 0; k < 4; k++) top[k] = FM(v_max)(FM(v_load)(x + i + k * FM_LANES), top[k]);
  float most = FM(v_reduce_max)(FM(v_max)(FM(v_max)(top[0], top[1]), FM(v_max)(top[2], top[3])));
  for (; i < n; i++) most = x[i] > most ? x[i] : most;
  return most;
}

static void FM(cross_entropy)(float *x, int64_t target, float scale, float *loss, uint16_t *gradient_bf16, int64_t n,
                              int wants_gradient) {
  float most = FM(row_maximum)(x, n), logit = x[target];
  vf c = FM(v_set)(most), s[2] = {FM(v_set)(0), FM(v_set)(0)};
  float rest = 0;
  int64_t i = 0;
  // The exponentials stay in the row only when the gradient will overwrite it anyway.
  int keeps = wants_gradient && !gradient_bf16;
  for (; i + 2 * FM_LANES <= n; i += 2 * FM_LANES)
    for (int k = 0; k < 2; k++) {
      vf e = FM(v_exp)(FM(v_load)(x + i + k * FM_LANES) - c);
      s[k] = s[k] + e;
      if (keeps) FM(v_store)(x + i + k * FM_LANES, e);
    }
  for (; i < n; i += FM_LANES) {
    int64_t m = n - i < FM_LANES ? n - i : FM_LANES;
    vf e = FM(v_exp)(FM(v_load_n)(x + i, m) - c);
    for (int64_t k = 0; k < m; k++) rest += e[k];
    if (keeps) FM(v_store_n)(x + i, e, m);
  }
  float sum = FM(v_sum)(s[0] + s[1]) + rest;
  *loss = (float)(log((double)sum) + (double)most - (double)logit);
  if (!wants_gradient) return;
  vf factor = FM(v_set)(scale / sum);
  for (i = 0; i < n; i += FM_LANES) {
    int64_t m = n - i < FM_LANES ? n - i : FM_LANES;
    vf v = m == FM_LANES ? FM(v_load)(x + i) : FM(v_load_n)(x + i, m);
    if (!keeps) v = FM(v_exp)(v - c);
    v = v * factor;
    if (target >= i && target < i + m) v[target - i] = v[target - i] - scale;
    if (gradient_bf16) {
      if (m == FM_LANES) FM(v_store_bf16)(gradient_bf16 + i, v); else FM(v_store_bf16_n)(gradient_bf16 + i, v, m);
    } else {
      if (m == FM_LANES) FM(v_store)(x + i, v); else FM(v_store_n)(x + i, v, m);
    }
  }
}

#else
#define FM_FILE "../cross_entropy.c"
#include "support/each_variant.h"

typedef struct {
  float *logits;
  const int32_t *targets;
  const float *row_weight;
  float gradient_scale, *losses;
  uint16_t *gradient_bf16;
  int64_t vocabulary, rows, rows_per_item;
} loss_task;

static void loss_row(const loss_task *t, int64_t r) {
  float *x = t->logits + r * t->vocabulary;
  uint16_t *gradient = t->gradient_bf16 ? t->gradient_bf16 + r * t->vocabulary : NULL;
  int wants_gradient = t->gradient_scale != 0;
  int32_t target = t->targets[r];
  if (target < 0 || target >= t->vocabulary) {
    t->losses[r] = 0;
    if (!wants_gradient) return;
    if (gradient) memset(gradient, 0, 2 * (size_t)t->vocabulary);
    else memset(x, 0, 4 * (size_t)t->vocabulary);
    return;
  }
  float scale = t->gradient_scale * (t->row_weight ? t->row_weight[r] : 1.0f);
  FM_CALL(cross_entropy)(x, target, scale, t->losses + r, gradient, t->vocabulary, wants_gradient);
}

static void loss_item(void *context, int64_t item) {
  const loss_task *t = context;
  int64_t last = (item + 1) * t->rows_per_item < t->rows ? (item + 1) * t->rows_per_item : t->rows;
  for (int64_t r = item * t->rows_per_item; r < last; r++) loss_row(t, r);
}

void fm_cross_entropy_rows(float *logits, const int32_t *targets, const float *row_weight, float gradient_scale, float *losses,
                           uint16_t *gradient_bf16, int64_t rows, int64_t vocabulary) {
  if (rows <= 0 || vocabulary <= 0) return;
  loss_task t = {logits, targets, row_weight, gradient_scale, losses, gradient_bf16, vocabulary, rows, 1};
  if (vocabulary < 8192) t.rows_per_item = 8192 / vocabulary;
  if (rows * vocabulary <= 16384) t.rows_per_item = rows;
  fm_parallel((rows + t.rows_per_item - 1) / t.rows_per_item, loss_item, &t);
}
#endif
