// Gated linear attention's scan, in tiles of 16 positions.
//
// Inside a tile the decays between two positions are running products of exp(g), so no exponent of a positive number
// is taken, and g = -infinity is a plain zero. With P_i the decay from the tile's start through position i, R_j the decay after
// position j to the tile's end and T the decay over the tile:
//
//   o_i = (q_i P_i) S + sum_{j <= i} A_ij v_j,   A_ij = sum_k q_ik k_jk prod_{j < s <= i} exp(g_sk)
//   S  <- diag(T) S + sum_j (k_j R_j)^T v_j
//
// T is the exponential of the summed logs, so that rounding does not pile up with the number of positions.
// A document's first token starts a new tile with an empty state; tiles never cross a chunk of FM_SCAN_CHUNK positions.
#include "fermata_gated_scan.h"

#ifdef FM_VARIANT
#include "support/scan_tile.h"
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
  int64_t padded = task->key_padded, stride = s->gate_stride[1];
  int64_t at = task->b * s->gate_stride[0] + start * stride + task->h * s->gate_stride[2];
  if (!s->vector_gate) {
    // One number a head: all columns are copies.
    float log[SCAN_ROWS] = {0}, decays[SCAN_ROWS + FM_LANES];
    vf sum = FM(v_set)(0);
    for (int64_t r = 0; r < rows; r++) log[r] = task->gate[at + r * stride];
    for (int64_t r = 0; r < SCAN_ROWS; r++) sum += FM(v_set)(log[r]);
    for (int64_t r = 0; r < SCAN_ROWS; r += FM_LANES) FM(v_store)(decays + r, FM(scan_exp)(FM(v_load)(log + r)));
    sum = FM(scan_exp)(sum);
    for (int64_t r = 0; r < SCAN_ROWS; r++)
      for (int64_t x = 0; x < padded; x += FM_LANES) FM(v_store)(gates + r * padded + x, FM(v_set)(decays[r]));
    for (int64_t x = 0; x < padded; x += FM_LANES) FM(v_store)(total + x, sum);
    return;
  }
  FM(scan_load_tile)(FM_F32, task->gate, at, stride, rows, s->key_width, padded, 1, gated_scan_ahead(task, start, stride), gates);
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

/// to_i = from_i P_i
static void FM(scan_decay_from_start)(const float *gates, const float *from, float *to, int64_t padded) {
  for (int64_t x = 0; x < padded; x += FM_LANES) {
    vf decay = FM(v_set)(1);
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

/// scores[j * 16 + i] = A_ij (zero for i < j).
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

/// Copies a (key_width, width) block between a state in memory and its padded tile.
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

static void FM(scan_load_queries)(const gated_scan_task *task, int64_t start, int64_t rows, float *tile) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t at = task->b * s->query_stride[0] + start * s->query_stride[1] + task->h * s->query_stride[2];
  FM(scan_load_tile)(s->type, task->query, at, s->query_stride[1], rows, s->key_width, task->key_padded, s->scale,
                     gated_scan_ahead(task, start, s->query_stride[1]), tile);
}
static void FM(scan_load_keys)(const gated_scan_task *task, int64_t start, int64_t rows, float *tile) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t at = task->b * s->key_stride[0] + start * s->key_stride[1] + task->h * s->key_stride[2];
  FM(scan_load_tile)(s->type, task->key, at, s->key_stride[1], rows, s->key_width, task->key_padded, 1,
                     gated_scan_ahead(task, start, s->key_stride[1]), tile);
}
static void FM(scan_load_values)(const gated_scan_task *task, int64_t start, int64_t rows, float *tile) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t at = task->b * s->value_stride[0] + start * s->value_stride[1] + task->h * s->value_stride[2] + task->first_value;
  FM(scan_load_tile)(s->type, task->value, at, s->value_stride[1], rows, task->values, task->value_padded, 1,
                     gated_scan_ahead(task, start, s->value_stride[1]), tile);
}

/// state <- diag(T) state + sum_j left_j^T right_j; without `decay` the state starts from zero.
static void FM(scan_update)(const gated_scan_task *task, const float *left, const float *right, const float *decay, float *state) {
  scan_factors outer = {left, 1, task->key_padded, right, task->value_padded, SCAN_ROWS};
  FM(scan_product)(task->key_padded, task->value_padded, &outer, NULL, state, task->value_padded, decay);
}

/// Forward over a whole piece for one (batch, head, block of value columns).
static void FM(scan_forward)(const gated_scan_task *task, float *scratch) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t kp = task->key_padded, vp = task->value_padded;
  float *state = scratch, *query = state + kp * vp, *key = query + SCAN_ROWS * kp, *gates = key + SCAN_ROWS * kp;
  float *decayed = gates + SCAN_ROWS * kp, *total = decayed + SCAN_ROWS * kp, *scores = total + kp;
  float *value = scores + SCAN_ROWS * SCAN_ROWS, *output = value + SCAN_ROWS * vp;
  int64_t head_state = s->key_width * s->value_width, chunks = (s->length + FM_SCAN_CHUNK - 1) / FM_SCAN_CHUNK;
  int64_t state_at = (task->b * s->heads + task->h) * head_state + task->first_value;
  FM(scan_load_state)(task, task->initial_state ? task->initial_state + state_at : NULL, state);
  for (int64_t start = 0, rows; start < s->length; start += rows) {
    rows = gated_scan_rows(task, start);
    int empty = gated_scan_resets(task, start);
    if (task->chunk_states && start % FM_SCAN_CHUNK == 0)
      FM(scan_store_state)(task, state, task->chunk_states + task->first_value +
                           ((task->b * chunks + start / FM_SCAN_CHUNK) * s->heads + task->h) * head_state);
    FM(scan_load_queries)(task, start, rows, query);
    FM(scan_load_keys)(task, start, rows, key);
    FM(scan_load_values)(task, start, rows, value);
    FM(scan_load_gates)(task, start, rows, gates, total);
    FM(scan_scores)(query, key, gates, kp, scores);
    FM(scan_decay_from_start)(gates, query, query, kp);
    FM(scan_decay_to_end)(gates, key, decayed, kp);
    scan_factors before = {query, kp, 1, state, vp, kp}, inside = {scores, 1, SCAN_ROWS, value, vp, SCAN_ROWS};
    FM(scan_product)(SCAN_ROWS, vp, empty ? NULL : &before, &inside, output, vp, NULL);
    int64_t row = s->heads * s->value_width;
    FM(scan_store_tile)(s->type, task->output, (task->b * s->length + start) * row + task->h * s->value_width + task->first_value,
                        row, rows, task->values, vp, 1, output);
    FM(scan_update)(task, decayed, value, empty ? NULL : total, state);
  }
  FM(scan_store_state)(task, state, task->final_state + state_at);
}

/// The recurrence itself, a token at a time, for pieces too short to fill a tile: the state streams through once a token.
static void FM(scan_steps)(const gated_scan_task *task, float *scratch) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t keys = s->key_width, values = s->value_width, kp = task->key_padded;
  float *query = scratch, *key = query + kp, *decay = key + kp;
  int64_t state_at = (task->b * s->heads + task->h) * keys * values + task->first_value;
  float *state = task->final_state + state_at;
  const float *before = task->initial_state ? task->initial_state + state_at : NULL;
  if (task->chunk_states) {
    // A short piece is one chunk.
    float *kept = task->chunk_states + state_at;
    for (int64_t k = 0; k < keys; k++)
      if (before) memcpy(kept + k * values, before + k * values, sizeof(float) * (size_t)task->values);
      else memset(kept + k * values, 0, sizeof(float) * (size_t)task->values);
  }
  for (int64_t t = 0; t < s->length; t++, before = state) {
    if (gated_scan_resets(task, t)) before = NULL;
    int64_t q_at = task->b * s->query_stride[0] + t * s->query_stride[1] + task->h * s->query_stride[2];
    int64_t k_at = task->b * s->key_stride[0] + t * s->key_stride[1] + task->h * s->key_stride[2];
    int64_t v_at = task->b * s->value_stride[0] + t * s->value_stride[1] + task->h * s->value_stride[2] + task->first_value;
    const float *gate = task->gate + task->b * s->gate_stride[0] + t * s->gate_stride[1] + task->h * s->gate_stride[2];
    int64_t o_at = ((task->b * s->length + t) * s->heads + task->h) * values + task->first_value;
    vf scale = FM(v_set)(s->scale), same = s->vector_gate ? scale : FM(v_exp)(FM(v_set)(*gate));
    for (int64_t x = 0; x < keys; x += FM_LANES) {
      int64_t n = keys - x;
      FM(v_store)(query + x, scale * FM(scan_read_n)(s->type, task->query, q_at + x, n));
      FM(v_store)(key + x, FM(scan_read_n)(s->type, task->key, k_at + x, n));
      FM(v_store)(decay + x, s->vector_gate ? FM(v_exp)(FM(scan_read_n)(FM_F32, gate, x, n)) : same);
    }
    int64_t x = 0;
    for (; x + 4 * FM_LANES <= task->values; x += 4 * FM_LANES) {
      vf v[4], o[4];
      for (int c = 0; c < 4; c++) {
        v[c] = FM(v_read)(s->type, task->value, v_at + x + c * FM_LANES);
        o[c] = FM(v_set)(0);
      }
      for (int64_t k = 0; k < keys; k++)
        for (int c = 0; c < 4; c++) {
          int64_t at = k * values + x + c * FM_LANES;
          vf update = FM(v_set)(key[k]) * v[c];
          if (before) update = FM(v_fma)(FM(v_set)(decay[k]), FM(v_load)(before + at), update);
          FM(v_store)(state + at, update);
          o[c] = FM(v_fma)(FM(v_set)(query[k]), update, o[c]);
        }
      for (int c = 0; c < 4; c++) FM(v_write)(s->type, task->output, o_at + x + c * FM_LANES, o[c]);
    }
    for (; x < task->values; x += FM_LANES) {
      int64_t n = task->values - x;
      vf v = FM(scan_read_n)(s->type, task->value, v_at + x, n), o = FM(v_set)(0);
      for (int64_t k = 0; k < keys; k++) {
        vf update = FM(v_set)(key[k]) * v;
        if (before) update = FM(v_fma)(FM(v_set)(decay[k]), FM(scan_read_n)(FM_F32, before, k * values + x, n), update);
        FM(scan_write_n)(FM_F32, state, k * values + x, update, n);
        o = FM(v_fma)(FM(v_set)(query[k]), update, o);
      }
      FM(scan_write_n)(s->type, task->output, o_at + x, o, n);
    }
  }
}

/// through[k] = total[k] sum_v state(k, v) dstate(k, v): the part of every gate's gradient that runs through the whole tile.
static void FM(scan_through)(const float *state, const float *dstate, int64_t kp, int64_t vp, float *total, float *through) {
  for (int64_t k = 0; k < kp; k += 16) {
    vf sums[16];
    for (int i = 0; i < 16; i++) {
      vf sum = FM(v_set)(0);
      for (int64_t x = 0; x < vp; x += FM_LANES)
        sum = FM(v_fma)(FM(v_load)(state + (k + i) * vp + x), FM(v_load)(dstate + (k + i) * vp + x), sum);
      sums[i] = sum;
    }
    FM(scan_sum16)(sums, through + k);
    for (int i = 0; i < 16; i += FM_LANES)
      FM(v_store)(through + k + i, FM(v_load)(through + k + i) * FM(v_load)(total + k + i));
  }
}

typedef struct {
  const float *query, *key, *gates, *dscores, *through;
  float *dquery, *dkey, *dgate;  // in: gradients through the states, before their decays; out: complete
  int64_t padded;
} FM(scan_gradient_tile);

/// Adds what stays inside the tile. For every pair j < i the product of decays D_ij reaches the gates j < t <= i.
static void FM(scan_inside)(const FM(scan_gradient_tile) *g) {
  int64_t kp = g->padded;
  for (int64_t x = 0; x < kp; x += FM_LANES) {
    vf a[SCAN_ROWS], q[SCAN_ROWS], k[SCAN_ROWS], dq[SCAN_ROWS], dk[SCAN_ROWS], dg[SCAN_ROWS];
    for (int i = 0; i < SCAN_ROWS; i++) {
      a[i] = FM(v_load)(g->gates + i * kp + x);
      q[i] = FM(v_load)(g->query + i * kp + x);
      k[i] = FM(v_load)(g->key + i * kp + x);
      dg[i] = FM(v_load)(g->through + x);
    }
    // Through the state before the tile: q_i's decay P_i holds every gate up to i.
    vf decay = FM(v_set)(1), sum = FM(v_set)(0);
    for (int i = 0; i < SCAN_ROWS; i++) {
      decay *= a[i];
      dq[i] = decay * FM(v_load)(g->dquery + i * kp + x);
    }
    for (int i = SCAN_ROWS - 1; i >= 0; i--) {
      sum = FM(v_fma)(q[i], dq[i], sum);
      dg[i] += sum;
    }
    // Through the state after the tile: k_j's decay R_j holds every gate after j.
    decay = FM(v_set)(1);
    for (int j = SCAN_ROWS - 1; j >= 0; j--) {
      dk[j] = decay * FM(v_load)(g->dkey + j * kp + x);
      decay *= a[j];
    }
    sum = FM(v_set)(0);
    for (int j = 0; j < SCAN_ROWS; j++) {
      dg[j] += sum;
      sum = FM(v_fma)(k[j], dk[j], sum);
    }
    for (int j = 0; j < SCAN_ROWS; j++) {
      vf through[SCAN_ROWS], same = FM(v_set)(g->dscores[j * SCAN_ROWS + j]);
      decay = FM(v_set)(1);
      dq[j] = FM(v_fma)(same, k[j], dq[j]);
      for (int i = j + 1; i < SCAN_ROWS; i++) {
        decay *= a[i];
        vf y = decay * FM(v_set)(g->dscores[i * SCAN_ROWS + j]);
        dq[i] = FM(v_fma)(y, k[j], dq[i]);
        through[i] = y * q[i];
      }
      sum = FM(v_set)(0);
      for (int i = SCAN_ROWS - 1; i > j; i--) {
        sum += through[i];
        dg[i] = FM(v_fma)(sum, k[j], dg[i]);
      }
      dk[j] += FM(v_fma)(same, q[j], sum);
    }
    for (int i = 0; i < SCAN_ROWS; i++) {
      FM(v_store)(g->dquery + i * kp + x, dq[i]);
      FM(v_store)(g->dkey + i * kp + x, dk[i]);
      FM(v_store)(g->dgate + i * kp + x, dg[i]);
    }
  }
}

static void FM(scan_transpose_tile)(const float *from, int64_t rows, int64_t columns, float *to) {
  for (int64_t r = 0; r < rows; r += 16)
    for (int64_t c = 0; c < columns; c += 16) FM(scan_transpose16)(from + r * columns + c, columns, to + c * rows + r, rows);
}

/// Backward over a whole piece for one (batch, head).
static void FM(scan_backward)(const gated_scan_task *task, float *scratch) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t kp = task->key_padded, vp = task->value_padded, tile = SCAN_ROWS;
  float *at = scratch;
  float *states = at; at += GATED_SCAN_STATES * kp * vp;
  float *dstate = at; at += kp * vp;
  float *query = at; at += tile * kp;
  float *key = at; at += tile * kp;
  float *gates = at; at += tile * kp;
  float *decayed = at; at += tile * kp;
  float *dquery = at; at += tile * kp;
  float *dkey = at; at += tile * kp;
  float *dgate = at; at += tile * kp;
  float *transposed = at; at += tile * kp;
  float *total = at; at += kp;
  float *through = at; at += kp;
  float *value = at; at += tile * vp;
  float *doutput = at; at += tile * vp;
  float *dvalue = at; at += tile * vp;
  float *value_columns = at; at += tile * vp;
  float *doutput_columns = at; at += tile * vp;
  float *scores = at; at += tile * tile;
  float *dscores = at;
  int64_t head_state = s->key_width * s->value_width, chunks = (s->length + FM_SCAN_CHUNK - 1) / FM_SCAN_CHUNK;
  int64_t state_at = (task->b * s->heads + task->h) * head_state;
  FM(scan_load_state)(task, task->dfinal_state ? task->dfinal_state + state_at : NULL, dstate);
  for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
    int64_t starts[FM_SCAN_CHUNK + 1], slots[FM_SCAN_CHUNK], count = 0, slot = 0;
    int64_t end = (chunk + 1) * FM_SCAN_CHUNK < s->length ? (chunk + 1) * FM_SCAN_CHUNK : s->length;
    const float *kept = task->kept_states ? task->kept_states + ((task->b * chunks + chunk) * s->heads + task->h) * head_state
                        : task->initial_state ? task->initial_state + state_at : NULL;
    // The states before each tile of the chunk; tiles that start a document need none.
    for (int64_t start = chunk * FM_SCAN_CHUNK; start < end; start += gated_scan_rows(task, start)) starts[count++] = start;
    starts[count] = end;
    for (int64_t u = 0; u < count; u++) {
      if (gated_scan_resets(task, starts[u])) { slots[u] = -1; continue; }
      float *state = states + slot * kp * vp;
      slots[u] = slot++;
      if (u == 0) { FM(scan_load_state)(task, kept, state); continue; }
      int64_t start = starts[u - 1], rows = starts[u] - start;
      FM(scan_load_keys)(task, start, rows, key);
      FM(scan_load_values)(task, start, rows, value);
      FM(scan_load_gates)(task, start, rows, gates, total);
      FM(scan_decay_to_end)(gates, key, decayed, kp);
      if (slots[u - 1] >= 0) memcpy(state, states + slots[u - 1] * kp * vp, sizeof(float) * (size_t)(kp * vp));
      FM(scan_update)(task, decayed, value, slots[u - 1] >= 0 ? total : NULL, state);
    }
    for (int64_t u = count - 1; u >= 0; u--) {
      int64_t start = starts[u], rows = starts[u + 1] - start;
      const float *state = slots[u] >= 0 ? states + slots[u] * kp * vp : NULL;
      FM(scan_load_queries)(task, start, rows, query);
      FM(scan_load_keys)(task, start, rows, key);
      FM(scan_load_values)(task, start, rows, value);
      FM(scan_load_gates)(task, start, rows, gates, total);
      int64_t row = s->heads * s->value_width, value_at = (task->b * s->length + start) * row + task->h * s->value_width;
      if (task->doutput)
        FM(scan_load_tile)(s->type, task->doutput, value_at, row, rows, s->value_width, vp, 1,
                           gated_scan_ahead(task, start, row), doutput);
      else
        memset(doutput, 0, sizeof(float) * (size_t)(tile * vp));
      FM(scan_transpose_tile)(value, tile, vp, value_columns);
      FM(scan_transpose_tile)(doutput, tile, vp, doutput_columns);

      FM(scan_scores)(query, key, gates, kp, scores);
      FM(scan_decay_to_end)(gates, key, decayed, kp);
      scan_factors later = {decayed, kp, 1, dstate, vp, kp}, inside = {scores, tile, 1, doutput, vp, tile};
      FM(scan_product)(tile, vp, &later, &inside, dvalue, vp, NULL);
      FM(scan_store_tile)(s->type, task->dvalue, value_at, row, rows, s->value_width, vp, 1, dvalue);

      scan_factors pairs = {doutput, vp, 1, value_columns, tile, vp};
      FM(scan_product)(tile, tile, &pairs, NULL, dscores, tile, NULL);
      scan_factors after = {dstate, vp, 1, value_columns, tile, vp}, before = {state, vp, 1, doutput_columns, tile, vp};
      FM(scan_product)(kp, tile, &after, NULL, transposed, tile, NULL);
      FM(scan_transpose_tile)(transposed, kp, tile, dkey);
      if (state) {
        FM(scan_product)(kp, tile, &before, NULL, transposed, tile, NULL);
        FM(scan_transpose_tile)(transposed, kp, tile, dquery);
        FM(scan_through)(state, dstate, kp, vp, total, through);
      } else {
        memset(dquery, 0, sizeof(float) * (size_t)(tile * kp));
        memset(through, 0, sizeof(float) * (size_t)kp);
      }
      FM(scan_gradient_tile) gradient = {query, key, gates, dscores, through, dquery, dkey, dgate, kp};
      FM(scan_inside)(&gradient);
      int64_t key_row = s->heads * s->key_width, key_at = (task->b * s->length + start) * key_row + task->h * s->key_width;
      FM(scan_store_tile)(s->type, task->dquery, key_at, key_row, rows, s->key_width, kp, s->scale, dquery);
      FM(scan_store_tile)(s->type, task->dkey, key_at, key_row, rows, s->key_width, kp, 1, dkey);
      if (s->vector_gate) {
        FM(scan_store_tile)(FM_F32, task->dgate, key_at, key_row, rows, s->key_width, kp, 1, dgate);
      } else {
        for (int64_t r = 0; r < rows; r++) {
          vf sum = FM(v_set)(0);
          for (int64_t x = 0; x < kp; x += FM_LANES) sum += FM(v_load)(dgate + r * kp + x);
          task->dgate[(task->b * s->length + start + r) * s->heads + task->h] = FM(v_sum)(sum);
        }
      }
      if (state) {
        FM(scan_decay_from_start)(gates, query, query, kp);
        FM(scan_update)(task, query, doutput, total, dstate);
      } else {
        memset(dstate, 0, sizeof(float) * (size_t)(kp * vp));
      }
    }
  }
  if (task->dinitial_state) FM(scan_store_state)(task, dstate, task->dinitial_state + state_at);
}

#else
#include <stdlib.h>
#include <string.h>

/// Non-empty states that the tiles of one chunk can start from: the chunk's own and one after each full tile.
#define GATED_SCAN_STATES 4
/// Positions in a tile: SCAN_ROWS.
#define GATED_SCAN_TILE 16
/// Pieces up to this length go through the plain recurrence.
#define GATED_SCAN_STEPS 8

typedef struct {
  const fm_gated_scan_shape *shape;
  const void *query, *key, *value, *doutput;
  const float *gate, *initial_state, *kept_states, *dfinal_state;
  void *output, *dquery, *dkey, *dvalue;
  float *final_state, *chunk_states, *dgate, *dinitial_state;
  int64_t b, h, first_value, values;  // the head and the block of value columns
  int64_t key_padded, value_padded;
  int64_t ahead;  // positions between what is read and what is fetched into the cache for later
} gated_scan_task;

static inline int gated_scan_resets(const gated_scan_task *task, int64_t t) {
  return task->shape->resets && task->shape->resets[task->b * task->shape->length + t];
}
/// Positions in the tile that starts at `start`.
static inline int64_t gated_scan_rows(const gated_scan_task *task, int64_t start) {
  int64_t end = (start / FM_SCAN_CHUNK + 1) * FM_SCAN_CHUNK, rows = 1;
  if (end > task->shape->length) end = task->shape->length;
  while (rows < GATED_SCAN_TILE && start + rows < end && !gated_scan_resets(task, start + rows)) rows++;
  return rows;
}

/// The distance in elements to what will be read soon, 0 where that is outside the piece: a tile further in the forward, a
/// chunk back in the backward, which begins each chunk by going through all of it.
static inline int64_t gated_scan_ahead(const gated_scan_task *task, int64_t start, int64_t stride) {
  int64_t next = start + task->ahead;
  return next >= 0 && next + GATED_SCAN_TILE <= task->shape->length ? task->ahead * stride : 0;
}

#define FM_FILE "../gated_scan.c"
#include "support/each_variant.h"

typedef struct {
  gated_scan_task task;
  void (*run)(const gated_scan_task *, float *);
  float *scratch;
  size_t scratch_floats;  // a thread
  int64_t blocks, block_width;
} gated_scan_call;

static void gated_scan_run(void *context, int64_t index) {
  gated_scan_call *call = context;
  gated_scan_task task = call->task;
  int64_t block = index % call->blocks, head = index / call->blocks;
  task.b = head / task.shape->heads;
  task.h = head % task.shape->heads;
  task.first_value = block * call->block_width;
  task.values = task.shape->value_width - task.first_value;
  if (task.values > call->block_width) task.values = call->block_width;
  task.value_padded = scan_round_up(task.values);
  call->run(&task, call->scratch + (size_t)fm_thread_index() * call->scratch_floats);
}

static int gated_scan_start(gated_scan_call *call, int64_t floats, int64_t work) {
  int64_t tasks = call->task.shape->batch * call->task.shape->heads * call->blocks;
  // Whole cache lines a thread, one more between threads.
  call->scratch_floats = (size_t)((floats + 15) & ~(int64_t)15) + 16;
  call->scratch = aligned_alloc(64, sizeof(float) * call->scratch_floats * (size_t)fm_threads());
  if (!call->scratch) return -1;
  // Waking the pool costs more than a few tens of thousands of operations.
  if (work < 32768) {
    for (int64_t i = 0; i < tasks; i++) gated_scan_run(call, i);
  } else {
    fm_parallel_dynamic(tasks, gated_scan_run, call);
  }
  free(call->scratch);
  return 0;
}

int fm_gated_scan(const fm_gated_scan_shape *shape, const void *query, const void *key, const void *value,
                  const float *gate, const float *initial_state, void *output, float *final_state, float *chunk_states) {
  int64_t heads = shape->batch * shape->heads, state = shape->key_width * shape->value_width;
  if (heads <= 0 || state <= 0) return 0;
  if (shape->length <= 0) {
    if (initial_state) memcpy(final_state, initial_state, sizeof(float) * (size_t)(heads * state));
    else memset(final_state, 0, sizeof(float) * (size_t)(heads * state));
    return 0;
  }
  gated_scan_call call = {.task = {.shape = shape, .query = query, .key = key, .value = value, .gate = gate,
                                   .initial_state = initial_state, .output = output, .final_state = final_state,
                                   .chunk_states = chunk_states, .ahead = GATED_SCAN_TILE,
                                   .key_padded = scan_round_up(shape->key_width)}};
  // Columns of the state are independent; they are split when there are fewer heads than threads.
  int64_t wanted = heads >= fm_threads() ? 1 : (fm_threads() + heads - 1) / heads;
  call.block_width = scan_round_up((shape->value_width + wanted - 1) / wanted);
  call.blocks = (shape->value_width + call.block_width - 1) / call.block_width;
  int64_t kp = call.task.key_padded, vp = call.block_width;
  int64_t tile = GATED_SCAN_TILE;
  int steps = shape->length <= GATED_SCAN_STEPS;
  call.run = steps ? FM_CALL(scan_steps) : FM_CALL(scan_forward);
  int64_t floats = steps ? 3 * kp : kp * vp + (4 * tile + 1) * kp + tile * tile + 2 * tile * vp;
  return gated_scan_start(&call, floats, heads * state * shape->length);
}

int fm_gated_scan_backward(const fm_gated_scan_shape *shape, const void *query, const void *key, const void *value,
                           const float *gate, const float *initial_state, const float *chunk_states,
                           const void *doutput, const float *dfinal_state, void *dquery, void *dkey, void *dvalue,
                           float *dgate, float *dinitial_state) {
  int64_t heads = shape->batch * shape->heads, state = shape->key_width * shape->value_width;
  if (heads <= 0 || state <= 0) return 0;
  if (shape->length <= 0) {
    if (!dinitial_state) return 0;
    if (dfinal_state) memcpy(dinitial_state, dfinal_state, sizeof(float) * (size_t)(heads * state));
    else memset(dinitial_state, 0, sizeof(float) * (size_t)(heads * state));
    return 0;
  }
  // One chunk's state is the initial state; more must have been kept.
  if (!chunk_states && shape->length > FM_SCAN_CHUNK) return -1;
  int64_t kp = scan_round_up(shape->key_width), vp = scan_round_up(shape->value_width);
  gated_scan_call call = {.task = {.shape = shape, .query = query, .key = key, .value = value, .gate = gate,
                                   .initial_state = initial_state, .kept_states = chunk_states, .doutput = doutput,
                                   .dfinal_state = dfinal_state, .dquery = dquery, .dkey = dkey, .dvalue = dvalue,
                                   .dgate = dgate, .dinitial_state = dinitial_state, .ahead = -FM_SCAN_CHUNK, .key_padded = kp},
                          .run = FM_CALL(scan_backward), .blocks = 1, .block_width = vp};
  int64_t tile = GATED_SCAN_TILE;
  int64_t floats = (GATED_SCAN_STATES + 1) * kp * vp + (8 * tile + 2) * kp + 5 * tile * vp + 2 * tile * tile;
  return gated_scan_start(&call, floats, 2 * heads * state * shape->length);
}
#endif
