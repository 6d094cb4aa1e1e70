// Fused optimiser steps and the norm of gradients.
#include "fermata_optimizer.h"
#ifdef FM_VARIANT
#include "support/vector_math.h"

typedef struct {
  vf decay, beta1, rest1, beta2, rest2, rate, root, epsilon, scale;
} FM(constants);

FM_INLINE vf FM(step)(const FM(constants) *k, vf p, vf g, vf *m, vf *v) {
  g = g * k->scale;
  p = p * k->decay;
  *m = FM(v_fma)(k->beta1, *m, k->rest1 * g);
  *v = FM(v_fma)(k->beta2, *v, k->rest2 * g * g);
  return p - k->rate * *m / (FM(v_sqrt)(*v) * k->root + k->epsilon);
}

static void FM(adamw)(float *p, const float *g, float *m, float *v, int64_t n, const fm_adamw_options *o) {
  FM(constants) k = {FM(v_set)(1.0f - o->learning_rate * o->weight_decay), FM(v_set)(o->beta1), FM(v_set)(1.0f - o->beta1),
                     FM(v_set)(o->beta2), FM(v_set)(1.0f - o->beta2), FM(v_set)(o->learning_rate / o->correction1),
                     FM(v_set)(1.0f / sqrtf(o->correction2)), FM(v_set)(o->epsilon), FM(v_set)(o->gradient_scale)};
  int64_t i = 0;
  for (; i + FM_LANES <= n; i += FM_LANES) {
    vf a = FM(v_load)(m + i), b = FM(v_load)(v + i);
    FM(v_store)(p + i, FM(step)(&k, FM(v_load)(p + i), FM(v_load)(g + i), &a, &b));
    FM(v_store)(m + i, a);
    FM(v_store)(v + i, b);
  }
  if (i < n) {
    vf a = FM(v_load_n)(m + i, n - i), b = FM(v_load_n)(v + i, n - i);
    FM(v_store_n)(p + i, FM(step)(&k, FM(v_load_n)(p + i, n - i), FM(v_load_n)(g + i, n - i), &a, &b), n - i);
    FM(v_store_n)(m + i, a, n - i);
    FM(v_store_n)(v + i, b, n - i);
  }
}

// Squares of f32 are exact in f64.
static double FM(squares)(const float *x, int64_t n) {
  typedef double vd __attribute__((vector_size(8 * FM_LANES)));
  vd s[2] = {{0}, {0}};
  int64_t i = 0;
  for (; i + 2 * FM_LANES <= n; i += 2 * FM_LANES)
    for (int k = 0; k < 2; k++) {
      vd v = __builtin_convertvector(FM(v_load)(x + i + k * FM_LANES), vd);
      s[k] = s[k] + v * v;
    }
  double total = 0;
  for (; i < n; i++) total += (double)x[i] * x[i];
  s[0] = s[0] + s[1];
  for (int k = 0; k < FM_LANES; k++) total += s[0][k];
  return total;
}

#else
#define FM_FILE "../optimizer.c"
#include "support/each_variant.h"

#define GRAIN 16384
// The sum of squares has at most this many partial sums, whatever the number of threads.
#define PARTS 512

typedef struct {
  float *p, *m, *v;
  const float *g;
  int64_t count, block;
  fm_adamw_options options;
  double *parts;
} flat_task;

static void adamw_item(void *context, int64_t item) {
  const flat_task *t = context;
  int64_t i = item * GRAIN, n = t->count - i < GRAIN ? t->count - i : GRAIN;
  FM_CALL(adamw)(t->p + i, t->g + i, t->m + i, t->v + i, n, &t->options);
}

void fm_adamw(float *parameter, const float *gradient, float *first_moment, float *second_moment, int64_t count,
              fm_adamw_options options) {
  if (count <= 0) return;
  flat_task t = {.p = parameter, .m = first_moment, .v = second_moment, .g = gradient, .count = count, .options = options};
  fm_parallel((count + GRAIN - 1) / GRAIN, adamw_item, &t);
}

static void squares_item(void *context, int64_t item) {
  const flat_task *t = context;
  int64_t i = item * t->block, n = t->count - i < t->block ? t->count - i : t->block;
  t->parts[item] = FM_CALL(squares)(t->g + i, n);
}

double fm_sum_of_squares(const float *x, int64_t count) {
  if (count <= 0) return 0;
  int64_t block = (count + PARTS - 1) / PARTS;
  if (block < GRAIN) block = GRAIN;
  double parts[PARTS], total = 0;
  flat_task t = {.g = x, .count = count, .block = block, .parts = parts};
  int64_t items = (count + block - 1) / block;
  fm_parallel(items, squares_item, &t);
  for (int64_t i = 0; i < items; i++) total += parts[i];
  return total;
}
#endif
