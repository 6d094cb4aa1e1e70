// What a tile of 16 positions needs in forward and backward. Included once per processor path, after support/scan_tile.h.
//
// Inside a tile the decays between two positions are running products of exp(g), so no exponent of a positive number is
// taken, and g = -infinity is a plain zero. With P_i the decay from the tile's start through position i, R_j the decay after
// position j to the tile's end, T the decay over the tile and D_ij the decay after j through i:
//
//   o_i = (q_i P_i) S + sum_{j <= i} A_ij u_j,   A_ij = sum_x q_ix k_jx D_ijx
//   S  <- diag(T) S + sum_j (k_j R_j)^T u_j
//
// Without rates u = v. The delta rule reads with its keys before it writes, so that
//
//   u_i = b_i y_i,   y_i = v_i - (k_i P_i) S - sum_{j < i} B_ij u_j,   B_ij = sum_x k_ix k_jx D_ijx
//
// which is a triangular system for the tile (the WY or UT form of Yang et al. 2024), solved by substitution.
// T is the exponential of the summed logs, so that rounding does not pile up with the number of positions.
_Static_assert(SCAN_ROWS == GATED_SCAN_TILE, "a tile's positions are the rows of its products");

/// e^x for x <= 0, as v_exp but without the cases that cannot occur: below -88 the power of two is already zero.
FM_INLINE vf FM(scan_exp)(vf x) {
#pragma clang fp contract(fast)
  // Written so that NaN stays NaN.
  x = FM(v_select)(x < FM(v_set)(-88.0f), FM(v_set)(-88.0f), x);
  vf magic = FM(v_set)(12582912.0f);
  vf n = (x * FM(v_set)(1.44269504088896341f) + magic) - magic;
  vf r = x - n * FM(v_set)(0.693359375f);
  r = r + n * FM(v_set)(2.12194440e-4f);
  vf p = FM(v_set)(1.9875691500e-4f);
  p = p * r + FM(v_set)(1.3981999507e-3f);
  p = p * r + FM(v_set)(8.3334519073e-3f);
  p = p * r + FM(v_set)(4.1665795894e-2f);
  p = p * r + FM(v_set)(1.6666665459e-1f);
  p = p * r + FM(v_set)(5.0000001201e-1f);
  p = p * (r * r) + r + FM(v_set)(1.0f);
  vi exponent = __builtin_convertvector(FM(v_select)(n == n, n, FM(v_set)(0)), vi);
  return p * (vf)((exponent + FM(v_seti)(127)) << 23);
}

/// The tile's decays exp(g), ones beyond `rows`, and in `total` the exponentials of their summed logs.
static void FM(scan_load_gates)(const gated_scan_task *task, int64_t start, int64_t rows, float *gates, float *total) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t padded = task->key_padded, stride = s->gate_stride[1], at = gated_scan_at(task, s->gate_stride, start);
  if (!s->vector_gate) {
    // One number a head: all columns are copies.
    float log[SCAN_ROWS] = {0}, decays[SCAN_ROWS + FM_LANES];
    vf sum = FM(v_set)(0);
    for (int64_t r = 0; r < rows; r++) log[r] = task->in.gate[at + r * stride];
    for (int64_t r = 0; r < SCAN_ROWS; r++) sum += FM(v_set)(log[r]);
    for (int64_t r = 0; r < SCAN_ROWS; r += FM_LANES) FM(v_store)(decays + r, FM(scan_exp)(FM(v_load)(log + r)));
    sum = FM(scan_exp)(sum);
    for (int64_t r = 0; r < SCAN_ROWS; r++)
      for (int64_t x = 0; x < padded; x += FM_LANES) FM(v_store)(gates + r * padded + x, FM(v_set)(decays[r]));
    for (int64_t x = 0; x < padded; x += FM_LANES) FM(v_store)(total + x, sum);
    return;
  }
  FM(scan_load_tile)(FM_F32, task->in.gate, at, stride, rows, s->key_width, padded, 1, gated_scan_ahead(task, start, stride), gates);
  for (int64_t x = 0; x < padded; x += FM_LANES) {
    vf sum = FM(v_set)(0);
    for (int64_t r = 0; r < SCAN_ROWS; r++) {
      vf g = FM(v_load)(gates + r * padded + x);
      sum += g;
      FM(v_store)(gates + r * padded + x, FM(scan_exp)(g));
    }
    FM(v_store)(total + x, FM(scan_exp)(sum));
  }
}

/// Loads of queries, keys, values and rates. What stands beyond `rows` or the width is zero.
static void FM(scan_load_queries)(const gated_scan_task *task, int64_t start, int64_t rows, float *tile) {
  const fm_gated_scan_shape *s = task->shape;
  FM(scan_load_tile)(s->type, task->in.query, gated_scan_key_at(task, s->query_stride, start), s->query_stride[1], rows, s->key_width,
                     task->key_padded, s->scale, gated_scan_ahead(task, start, s->query_stride[1]), tile);
}
static void FM(scan_load_keys)(const gated_scan_task *task, int64_t start, int64_t rows, float *tile) {
  const fm_gated_scan_shape *s = task->shape;
  FM(scan_load_tile)(s->type, task->in.key, gated_scan_key_at(task, s->key_stride, start), s->key_stride[1], rows, s->key_width,
                     task->key_padded, 1, gated_scan_ahead(task, start, s->key_stride[1]), tile);
}
static void FM(scan_load_values)(const gated_scan_task *task, int64_t start, int64_t rows, float *tile) {
  const fm_gated_scan_shape *s = task->shape;
  FM(scan_load_tile)(s->type, task->in.value, gated_scan_at(task, s->value_stride, start) + task->first_value, s->value_stride[1],
                     rows, task->values, task->value_padded, 1, gated_scan_ahead(task, start, s->value_stride[1]), tile);
}
static void FM(scan_load_rates)(const gated_scan_task *task, int64_t start, int64_t rows, float *rates) {
  const int64_t *stride = task->shape->rate_stride;
  int64_t at = gated_scan_at(task, stride, start);
  for (int64_t r = 0; r < SCAN_ROWS; r++) rates[r] = r < rows ? task->in.rate[at + r * stride[1]] : 0;
}

/// Copies a (key_width, values) block between a state in memory and its padded tile; no state is zeros.
static void FM(scan_load_state)(const gated_scan_task *task, const float *from, float *to) {
  int64_t stride = task->shape->value_width, keys = task->shape->key_width, padded = task->value_padded;
  if (!from) { memset(to, 0, sizeof(float) * (size_t)(task->key_padded * padded)); return; }
  for (int64_t k = 0; k < keys; k++)
    for (int64_t x = 0; x < padded; x += FM_LANES) {
      int64_t n = task->values - x;
      FM(v_store)(to + k * padded + x, n > 0 ? FM(scan_read_n)(FM_F32, from, k * stride + x, n) : FM(v_set)(0));
    }
  memset(to + keys * padded, 0, sizeof(float) * (size_t)((task->key_padded - keys) * padded));
}
static void FM(scan_store_state)(const gated_scan_task *task, const float *from, float *to) {
  int64_t stride = task->shape->value_width, padded = task->value_padded;
  for (int64_t k = 0; k < task->shape->key_width; k++)
    for (int64_t x = 0; x < task->values; x += FM_LANES)
      FM(scan_write_n)(FM_F32, to, k * stride + x, FM(v_load)(from + k * padded + x), task->values - x);
}

/// to_i = factor from_i P_i
static void FM(scan_decay_from_start)(const float *gates, const float *from, float *to, int64_t padded, float factor) {
  for (int64_t x = 0; x < padded; x += FM_LANES) {
    vf decay = FM(v_set)(factor);
    for (int64_t r = 0; r < SCAN_ROWS; r++) {
      decay *= FM(v_load)(gates + r * padded + x);
      FM(v_store)(to + r * padded + x, decay * FM(v_load)(from + r * padded + x));
    }
  }
}

/// to_j = from_j R_j
static void FM(scan_decay_to_end)(const float *gates, const float *from, float *to, int64_t padded) {
  for (int64_t x = 0; x < padded; x += FM_LANES) {
    vf decay = FM(v_set)(1);
    for (int64_t r = SCAN_ROWS - 1; r >= 0; r--) {
      FM(v_store)(to + r * padded + x, decay * FM(v_load)(from + r * padded + x));
      decay *= FM(v_load)(gates + r * padded + x);
    }
  }
}

/// scores[j * 16 + i] = A_ij (zero for i < j); B_ij when the queries are the keys.
FM_INLINE void FM(scan_score_column)(const int j, const float *query, const float *key, const float *gates, int64_t padded,
                                     float *scores) {
  vf acc[SCAN_ROWS];
#pragma clang loop unroll(full)
  for (int i = 0; i < SCAN_ROWS; i++) acc[i] = FM(v_set)(0);
  for (int64_t x = 0; x < padded; x += FM_LANES) {
    vf k = FM(v_load)(key + j * padded + x);
    acc[j] = FM(v_fma)(FM(v_load)(query + j * padded + x), k, acc[j]);
#pragma clang loop unroll(full)
    for (int i = j + 1; i < SCAN_ROWS; i++) {
      k *= FM(v_load)(gates + i * padded + x);
      acc[i] = FM(v_fma)(FM(v_load)(query + i * padded + x), k, acc[i]);
    }
  }
  FM(scan_sum16)(acc, scores + j * SCAN_ROWS);
}
static void FM(scan_scores)(const float *query, const float *key, const float *gates, int64_t padded, float *scores) {
#define SCAN_COLUMN(j) FM(scan_score_column)(j, query, key, gates, padded, scores);
  SCAN_COLUMN(0) SCAN_COLUMN(1) SCAN_COLUMN(2) SCAN_COLUMN(3) SCAN_COLUMN(4) SCAN_COLUMN(5) SCAN_COLUMN(6) SCAN_COLUMN(7)
  SCAN_COLUMN(8) SCAN_COLUMN(9) SCAN_COLUMN(10) SCAN_COLUMN(11) SCAN_COLUMN(12) SCAN_COLUMN(13) SCAN_COLUMN(14) SCAN_COLUMN(15)
#undef SCAN_COLUMN
}

/// state <- diag(decay) state + sum_j left_j^T right_j [+ more]; without `decay` the state starts from zero.
static void FM(scan_update)(const gated_scan_task *task, const float *left, const float *right, const scan_factors *more,
                            const float *decay, float *state) {
  scan_factors outer = {left, 1, task->key_padded, right, task->value_padded, SCAN_ROWS};
  FM(scan_product)(task->key_padded, task->value_padded, &outer, more, state, task->value_padded, decay);
}

// The delta rule.

/// The values' rows become y, and u = rates y goes to `written`, by forward substitution. `scores` is B; `values` has (k_i P_i) S taken
/// away already.
static void FM(scan_substitute)(const float *scores, const float *rates, float *values, float *written, int64_t padded) {
  for (int64_t x = 0; x < padded; x += FM_LANES) {
    vf y[SCAN_ROWS];
#pragma clang loop unroll(full)
    for (int i = 0; i < SCAN_ROWS; i++) y[i] = FM(v_load)(values + i * padded + x);
#pragma clang loop unroll(full)
    for (int j = 0; j < SCAN_ROWS; j++) {
      vf u = FM(v_set)(rates[j]) * y[j];
      FM(v_store)(values + j * padded + x, y[j]);
      FM(v_store)(written + j * padded + x, u);
#pragma clang loop unroll(full)
      for (int i = j + 1; i < SCAN_ROWS; i++) y[i] = FM(v_fma)(FM(v_set)(scores[j * SCAN_ROWS + i]), -u, y[i]);
    }
  }
}

/// What the delta rule writes instead of the values: `values` becomes y and `written` u. `key_scores` receives B; `decayed` is scratch of
/// a tile of keys. No state is an empty one.
static void FM(scan_correct)(const gated_scan_task *task, const float *key, const float *gates, const float *rates, const float *state,
                             float *key_scores, float *decayed, float *values, float *written) {
  static const float kept[SCAN_ROWS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  int64_t kp = task->key_padded, vp = task->value_padded;
  FM(scan_scores)(key, key, gates, kp, key_scores);
  if (state) {
    FM(scan_decay_from_start)(gates, key, decayed, kp, -1);
    scan_factors before = {decayed, kp, 1, state, vp, kp};
    FM(scan_product)(SCAN_ROWS, vp, &before, NULL, values, vp, kept);
  }
  FM(scan_substitute)(key_scores, rates, values, written, vp);
}

/// The gradient du of what was written becomes that of the values, in place, by backward substitution:
/// e_j = du_j - sum_{i > j} B_ij dv_i, dv_j = rates_j e_j. drates_j = <e_j, y_j>.
static void FM(scan_substitute_back)(const float *scores, const float *rates, const float *y, float *gradient, float *drates,
                                     int64_t padded) {
  vf sums[SCAN_ROWS];
#pragma clang loop unroll(full)
  for (int i = 0; i < SCAN_ROWS; i++) sums[i] = FM(v_set)(0);
  for (int64_t x = 0; x < padded; x += FM_LANES) {
    vf e[SCAN_ROWS];
#pragma clang loop unroll(full)
    for (int i = 0; i < SCAN_ROWS; i++) e[i] = FM(v_load)(gradient + i * padded + x);
#pragma clang loop unroll(full)
    for (int i = SCAN_ROWS - 1; i >= 0; i--) {
      vf dv = FM(v_set)(rates[i]) * e[i];
      sums[i] = FM(v_fma)(e[i], FM(v_load)(y + i * padded + x), sums[i]);
      FM(v_store)(gradient + i * padded + x, dv);
#pragma clang loop unroll(full)
      for (int j = 0; j < i; j++) e[j] = FM(v_fma)(FM(v_set)(scores[j * SCAN_ROWS + i]), -dv, e[j]);
    }
  }
  FM(scan_sum16)(sums, drates);
}
