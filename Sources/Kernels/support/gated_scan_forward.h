// The forward of a gated scan for one (batch, head, block of value columns). Included once per processor path.

static int64_t FM(scan_forward_floats)(int64_t kp, int64_t vp) {
  return kp * vp + (4 * SCAN_ROWS + 1) * kp + 2 * SCAN_ROWS * SCAN_ROWS + 3 * SCAN_ROWS * vp + SCAN_ROWS;
}

/// Over a whole piece, tile by tile.
static void FM(scan_forward)(const gated_scan_task *task, float *scratch) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t kp = task->key_padded, vp = task->value_padded, state_at = gated_scan_state_at(task);
  int64_t row = s->heads * s->value_width;
  float *state = gated_scan_take(&scratch, kp * vp), *total = gated_scan_take(&scratch, kp);
  float *query = gated_scan_take(&scratch, SCAN_ROWS * kp), *key = gated_scan_take(&scratch, SCAN_ROWS * kp);
  float *gates = gated_scan_take(&scratch, SCAN_ROWS * kp), *decayed = gated_scan_take(&scratch, SCAN_ROWS * kp);
  float *scores = gated_scan_take(&scratch, SCAN_ROWS * SCAN_ROWS), *key_scores = gated_scan_take(&scratch, SCAN_ROWS * SCAN_ROWS);
  float *value = gated_scan_take(&scratch, SCAN_ROWS * vp), *output = gated_scan_take(&scratch, SCAN_ROWS * vp);
  float *corrected = gated_scan_take(&scratch, SCAN_ROWS * vp), *rates = gated_scan_take(&scratch, SCAN_ROWS);
  FM(scan_load_state)(task, task->in.initial_state ? task->in.initial_state + state_at : NULL, state);
  for (int64_t start = 0, rows; start < s->length; start += rows) {
    rows = gated_scan_rows(task, start);
    int empty = gated_scan_resets(task, start);
    if (task->chunk_states && start % FM_SCAN_CHUNK == 0)
      FM(scan_store_state)(task, state, task->chunk_states + gated_scan_chunk_state_at(task, start / FM_SCAN_CHUNK));
    FM(scan_load_queries)(task, start, rows, query);
    FM(scan_load_keys)(task, start, rows, key);
    FM(scan_load_values)(task, start, rows, value);
    FM(scan_load_gates)(task, start, rows, gates, total);
    float *written = value;
    if (task->in.rate) {
      FM(scan_load_rates)(task, start, rows, rates);
      FM(scan_correct)(task, key, gates, rates, empty ? NULL : state, key_scores, decayed, value, corrected);
      written = corrected;
    }
    FM(scan_scores)(query, key, gates, kp, scores);
    FM(scan_decay_from_start)(gates, query, query, kp, 1);
    scan_factors before = {query, kp, 1, state, vp, kp}, inside = {scores, 1, SCAN_ROWS, written, vp, SCAN_ROWS};
    FM(scan_product)(SCAN_ROWS, vp, empty ? NULL : &before, &inside, output, vp, NULL);
    FM(scan_store_tile)(s->type, task->output, (task->b * s->length + start) * row + task->h * s->value_width + task->first_value,
                        row, rows, task->values, vp, 1, output);
    FM(scan_decay_to_end)(gates, key, decayed, kp);
    FM(scan_update)(task, decayed, written, NULL, empty ? NULL : total, state);
  }
  FM(scan_store_state)(task, state, task->final_state + state_at);
}

/// One token's effect on a few columns of the state; `before` is NULL for an empty one.
typedef struct {
  const float *query, *key, *decay, *before;
  float *state, rate;
  int has_rate;
  int64_t keys, stride, values_at, output_at, left;  // left: columns from the first of these on
} FM(scan_token);

FM_INLINE void FM(scan_token_columns)(const gated_scan_task *task, const FM(scan_token) *t, const int vectors, int64_t x) {
  const int64_t left = vectors == 4 ? 4 * FM_LANES : t->left;
  vf u[4], o[4];
#pragma clang loop unroll(full)
  for (int c = 0; c < vectors; c++) {
    u[c] = FM(scan_read_n)(task->shape->type, task->in.value, t->values_at + x + c * FM_LANES, left - c * FM_LANES);
    o[c] = FM(v_set)(0);
  }
  if (t->has_rate) {
    if (t->before)
      for (int64_t k = 0; k < t->keys; k++)
#pragma clang loop unroll(full)
        for (int c = 0; c < vectors; c++)
          u[c] = FM(v_fma)(FM(v_set)(-t->key[k] * t->decay[k]),
                           FM(scan_read_n)(FM_F32, t->before, k * t->stride + x + c * FM_LANES, left - c * FM_LANES), u[c]);
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors; c++) u[c] *= FM(v_set)(t->rate);
  }
  for (int64_t k = 0; k < t->keys; k++)
#pragma clang loop unroll(full)
    for (int c = 0; c < vectors; c++) {
      int64_t at = k * t->stride + x + c * FM_LANES, n = left - c * FM_LANES;
      vf next = FM(v_set)(t->key[k]) * u[c];
      if (t->before) next = FM(v_fma)(FM(v_set)(t->decay[k]), FM(scan_read_n)(FM_F32, t->before, at, n), next);
      FM(scan_write_n)(FM_F32, t->state, at, next, n);
      o[c] = FM(v_fma)(FM(v_set)(t->query[k]), next, o[c]);
    }
#pragma clang loop unroll(full)
  for (int c = 0; c < vectors; c++)
    FM(scan_write_n)(task->shape->type, task->output, t->output_at + x + c * FM_LANES, o[c], left - c * FM_LANES);
}

static int64_t FM(scan_step_floats)(int64_t kp) { return 3 * kp; }

/// The recurrence itself, a token at a time, for pieces too short to fill a tile: the state streams through once a token.
static void FM(scan_steps)(const gated_scan_task *task, float *scratch) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t keys = s->key_width, values = s->value_width, kp = task->key_padded, state_at = gated_scan_state_at(task);
  float *query = scratch, *key = query + kp, *decay = key + kp;
  FM(scan_token) t = {query, key, decay, task->in.initial_state ? task->in.initial_state + state_at : NULL,
                      task->final_state + state_at, 1, task->in.rate != NULL, keys, values, 0, 0, 0};
  if (task->chunk_states) {
    // A short piece is one chunk.
    float *kept = task->chunk_states + state_at;
    for (int64_t k = 0; k < keys; k++)
      if (t.before) memcpy(kept + k * values, t.before + k * values, sizeof(float) * (size_t)task->values);
      else memset(kept + k * values, 0, sizeof(float) * (size_t)task->values);
  }
  for (int64_t i = 0; i < s->length; i++, t.before = t.state) {
    if (gated_scan_resets(task, i)) t.before = NULL;
    int64_t q_at = gated_scan_key_at(task, s->query_stride, i), k_at = gated_scan_key_at(task, s->key_stride, i);
    const float *gate = task->in.gate + gated_scan_at(task, s->gate_stride, i);
    t.values_at = gated_scan_at(task, s->value_stride, i) + task->first_value;
    t.output_at = ((task->b * s->length + i) * s->heads + task->h) * values + task->first_value;
    if (t.has_rate) t.rate = task->in.rate[gated_scan_at(task, s->rate_stride, i)];
    vf weight = FM(v_set)(task->in.weight ? task->in.weight[gated_scan_at(task, s->weight_stride, i)] : 1);
    vf scale = FM(v_set)(s->scale), same = s->vector_gate ? scale : FM(v_exp)(FM(v_set)(*gate));
    for (int64_t x = 0; x < keys; x += FM_LANES) {
      int64_t n = keys - x;
      FM(v_store)(query + x, scale * FM(scan_read_n)(s->type, task->in.query, q_at + x, n));
      FM(v_store)(key + x, weight * FM(scan_read_n)(s->type, task->in.key, k_at + x, n));
      FM(v_store)(decay + x, s->vector_gate ? FM(v_exp)(FM(scan_read_n)(FM_F32, gate, x, n)) : same);
    }
    for (int64_t x = 0; x < task->values;) {
      t.left = task->values - x;
      int wide = t.left >= 4 * FM_LANES;
      if (wide) FM(scan_token_columns)(task, &t, 4, x); else FM(scan_token_columns)(task, &t, 1, x);
      x += (wide ? 4 : 1) * FM_LANES;
    }
  }
}
