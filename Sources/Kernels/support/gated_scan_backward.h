// The backward of a gated scan for one (batch, head). Included once per processor path.

/// A tile on the way back. Names as in gated_scan_tile.h; d... are gradients of what they name.
typedef struct {
  float *query, *key, *gates, *decayed, *total, *value, *doutput, *rates, *y;
  float *dquery, *dkey, *dread, *dgate, *dvalue, *drates, *through;
  float *scores, *key_scores, *dscores, *dkey_scores;
  float *columns, *doutput_columns, *transposed;
} FM(scan_backward_tile);

static int64_t FM(scan_backward_floats)(int64_t kp, int64_t vp) {
  int64_t rows = SCAN_ROWS;
  return (GATED_SCAN_STATES + 1) * kp * vp + (9 * rows + 2) * kp + (6 * rows + FM_SCAN_CHUNK) * vp + 4 * rows * rows + 2 * rows;
}

static void FM(scan_take_tile)(FM(scan_backward_tile) *t, float **scratch, int64_t kp, int64_t vp) {
  float **of_keys[] = {&t->query, &t->key, &t->gates, &t->decayed, &t->dquery, &t->dkey, &t->dread, &t->dgate, &t->transposed};
  float **of_values[] = {&t->value, &t->doutput, &t->y, &t->dvalue, &t->columns, &t->doutput_columns};
  float **of_pairs[] = {&t->scores, &t->key_scores, &t->dscores, &t->dkey_scores};
  for (int i = 0; i < 9; i++) *of_keys[i] = gated_scan_take(scratch, SCAN_ROWS * kp);
  for (int i = 0; i < 6; i++) *of_values[i] = gated_scan_take(scratch, SCAN_ROWS * vp);
  for (int i = 0; i < 4; i++) *of_pairs[i] = gated_scan_take(scratch, SCAN_ROWS * SCAN_ROWS);
  t->total = gated_scan_take(scratch, kp);
  t->through = gated_scan_take(scratch, kp);
  t->rates = gated_scan_take(scratch, SCAN_ROWS);
  t->drates = gated_scan_take(scratch, SCAN_ROWS);
}

/// through[k] = total[k] sum_v state(k, v) dstate(k, v): the part of every gate's gradient that runs through the whole tile.
static void FM(scan_through)(const float *state, const float *dstate, int64_t kp, int64_t vp, const float *total, float *through) {
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

/// Gradients of one reading of the memory, by queries or by the delta rule's keys, in a block of features. `dq` comes in as the gradient
/// through the state before the tile, without its decay, and goes out complete; `dk` and `dg` are added to. For every pair j < i the
/// product of decays D_ij reaches the gates j < t <= i.
FM_INLINE void FM(scan_inside_reading)(const float *dscores, const int own, const vf *a, const vf *q, const vf *k, vf *dq, vf *dk,
                                       vf *dg) {
  // Through the state before the tile: q_i's decay P_i holds every gate up to i.
  vf decay = FM(v_set)(1), sum = FM(v_set)(0);
  for (int i = 0; i < SCAN_ROWS; i++) {
    decay *= a[i];
    dq[i] *= decay;
  }
  for (int i = SCAN_ROWS - 1; i >= 0; i--) {
    sum = FM(v_fma)(q[i], dq[i], sum);
    dg[i] += sum;
  }
  for (int j = 0; j < SCAN_ROWS; j++) {
    vf through[SCAN_ROWS];
    decay = FM(v_set)(1);
    for (int i = j + 1; i < SCAN_ROWS; i++) {
      decay *= a[i];
      vf y = decay * FM(v_set)(dscores[i * SCAN_ROWS + j]);
      dq[i] = FM(v_fma)(y, k[j], dq[i]);
      through[i] = y * q[i];
    }
    sum = FM(v_set)(0);
    for (int i = SCAN_ROWS - 1; i > j; i--) {
      sum += through[i];
      dg[i] = FM(v_fma)(sum, k[j], dg[i]);
    }
    if (own) {
      vf same = FM(v_set)(dscores[j * SCAN_ROWS + j]);
      dq[j] = FM(v_fma)(same, k[j], dq[j]);
      sum = FM(v_fma)(same, q[j], sum);
    }
    dk[j] += sum;
  }
}

/// Completes the gradients of queries, keys and gates: those through the states come in, without their decays.
static void FM(scan_inside)(const FM(scan_backward_tile) *t, int64_t kp, const int delta) {
  for (int64_t x = 0; x < kp; x += FM_LANES) {
    vf a[SCAN_ROWS], q[SCAN_ROWS], k[SCAN_ROWS], dq[SCAN_ROWS], dk[SCAN_ROWS], dg[SCAN_ROWS];
    for (int i = 0; i < SCAN_ROWS; i++) {
      a[i] = FM(v_load)(t->gates + i * kp + x);
      q[i] = FM(v_load)(t->query + i * kp + x);
      k[i] = FM(v_load)(t->key + i * kp + x);
      dq[i] = FM(v_load)(t->dquery + i * kp + x);
      dg[i] = FM(v_load)(t->through + x);
    }
    // Through the state after the tile: k_j's decay R_j holds every gate after j.
    vf decay = FM(v_set)(1), sum = FM(v_set)(0);
    for (int j = SCAN_ROWS - 1; j >= 0; j--) {
      dk[j] = decay * FM(v_load)(t->dkey + j * kp + x);
      decay *= a[j];
    }
    for (int j = 0; j < SCAN_ROWS; j++) {
      dg[j] += sum;
      sum = FM(v_fma)(k[j], dk[j], sum);
    }
    FM(scan_inside_reading)(t->dscores, 1, a, q, k, dq, dk, dg);
    for (int i = 0; i < SCAN_ROWS; i++) FM(v_store)(t->dquery + i * kp + x, dq[i]);
    if (delta) {
      for (int i = 0; i < SCAN_ROWS; i++) dq[i] = FM(v_load)(t->dread + i * kp + x);
      FM(scan_inside_reading)(t->dkey_scores, 0, a, k, k, dq, dk, dg);
      for (int i = 0; i < SCAN_ROWS; i++) dk[i] += dq[i];
    }
    for (int i = 0; i < SCAN_ROWS; i++) {
      FM(v_store)(t->dkey + i * kp + x, dk[i]);
      FM(v_store)(t->dgate + i * kp + x, dg[i]);
    }
  }
}

static void FM(scan_transpose_tile)(const float *from, int64_t rows, int64_t columns, float *to) {
  for (int64_t r = 0; r < rows; r += 16)
    for (int64_t c = 0; c < columns; c += 16) FM(scan_transpose16)(from + r * columns + c, columns, to + c * rows + r, rows);
}

/// The tiles of a chunk: where they start, and which of the states found again each starts from (-1: an empty one).
typedef struct {
  int64_t start[FM_SCAN_CHUNK + 1], slot[FM_SCAN_CHUNK], count;
  float *states, *y;  // y: the delta rule's rows of the chunk
} FM(scan_chunk);

/// Goes through a chunk forwards for the states before its tiles and what the delta rule wrote.
static void FM(scan_again)(const gated_scan_task *task, int64_t chunk, FM(scan_backward_tile) *t, FM(scan_chunk) *c) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t kp = task->key_padded, vp = task->value_padded, slot = 0;
  int64_t begin = chunk * FM_SCAN_CHUNK, end = begin + FM_SCAN_CHUNK < s->length ? begin + FM_SCAN_CHUNK : s->length;
  const float *kept = task->kept_states ? task->kept_states + gated_scan_chunk_state_at(task, chunk)
                      : task->in.initial_state ? task->in.initial_state + gated_scan_state_at(task) : NULL;
  c->count = 0;
  for (int64_t start = begin; start < end; start += gated_scan_rows(task, start)) c->start[c->count++] = start;
  c->start[c->count] = end;
  for (int64_t u = 0; u < c->count; u++) c->slot[u] = gated_scan_resets(task, c->start[u]) ? -1 : slot++;
  if (c->slot[0] >= 0) FM(scan_load_state)(task, kept, c->states);
  for (int64_t u = 0; u < c->count; u++) {
    int goes_on = u + 1 < c->count && c->slot[u + 1] >= 0;
    if (!goes_on && !task->in.rate) continue;
    int64_t start = c->start[u], rows = c->start[u + 1] - start;
    float *state = c->slot[u] >= 0 ? c->states + c->slot[u] * kp * vp : NULL, *written = t->value;
    FM(scan_load_keys)(task, start, rows, t->key);
    FM(scan_load_values)(task, start, rows, t->value);
    FM(scan_load_gates)(task, start, rows, t->gates, t->total);
    if (task->in.rate) {
      FM(scan_load_rates)(task, start, rows, t->rates);
      FM(scan_correct)(task, t->key, t->gates, t->rates, state, t->key_scores, t->decayed, t->value, t->dvalue);
      memcpy(c->y + (start - begin) * vp, t->value, sizeof(float) * (size_t)(rows * vp));
      written = t->dvalue;
    }
    if (!goes_on) continue;
    float *next = c->states + c->slot[u + 1] * kp * vp;
    if (state) memcpy(next, state, sizeof(float) * (size_t)(kp * vp));
    FM(scan_decay_to_end)(t->gates, t->key, t->decayed, kp);
    FM(scan_update)(task, t->decayed, written, NULL, state ? t->total : NULL, next);
  }
}

/// Loads a tile, its gradient and, in `value`, what was written.
static void FM(scan_load_backward)(const gated_scan_task *task, int64_t start, int64_t rows, const float *y, FM(scan_backward_tile) *t) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t vp = task->value_padded, row = s->heads * s->value_width;
  FM(scan_load_queries)(task, start, rows, t->query);
  FM(scan_load_keys)(task, start, rows, t->key);
  FM(scan_load_gates)(task, start, rows, t->gates, t->total);
  if (task->in.rate) {
    FM(scan_load_rates)(task, start, rows, t->rates);
    FM(scan_load_tile)(FM_F32, y, 0, vp, rows, vp, vp, 1, 0, t->y);
    for (int64_t r = 0; r < SCAN_ROWS; r++)
      for (int64_t x = 0; x < vp; x += FM_LANES)
        FM(v_store)(t->value + r * vp + x, FM(v_set)(t->rates[r]) * FM(v_load)(t->y + r * vp + x));
  } else {
    FM(scan_load_values)(task, start, rows, t->value);
  }
  if (task->doutput)
    FM(scan_load_tile)(s->type, task->doutput, (task->b * s->length + start) * row + task->h * s->value_width, row, rows,
                       s->value_width, vp, 1, gated_scan_ahead(task, start, row), t->doutput);
  else
    memset(t->doutput, 0, sizeof(float) * (size_t)(SCAN_ROWS * vp));
}

/// What 16 rows of values, given by columns, read from a state back to front: to (a tile of keys) = rows state^T.
static void FM(scan_read_back)(const gated_scan_task *task, const float *state, const float *columns, float *transposed, float *to) {
  scan_factors all = {state, task->value_padded, 1, columns, SCAN_ROWS, task->value_padded};
  FM(scan_product)(task->key_padded, SCAN_ROWS, &all, NULL, transposed, SCAN_ROWS, NULL);
  FM(scan_transpose_tile)(transposed, task->key_padded, SCAN_ROWS, to);
}

/// Gradients of a tile; `dstate` is that of the state after it and becomes that of the state before.
static void FM(scan_tile_gradients)(const gated_scan_task *task, const float *state, float *dstate, FM(scan_backward_tile) *t) {
  int64_t kp = task->key_padded, vp = task->value_padded;
  int delta = task->in.rate != NULL;
  FM(scan_transpose_tile)(t->value, SCAN_ROWS, vp, t->columns);
  FM(scan_scores)(t->query, t->key, t->gates, kp, t->scores);
  FM(scan_decay_to_end)(t->gates, t->key, t->decayed, kp);
  scan_factors later = {t->decayed, kp, 1, dstate, vp, kp}, inside = {t->scores, SCAN_ROWS, 1, t->doutput, vp, SCAN_ROWS};
  FM(scan_product)(SCAN_ROWS, vp, &later, &inside, t->dvalue, vp, NULL);
  if (delta) {
    FM(scan_scores)(t->key, t->key, t->gates, kp, t->key_scores);
    FM(scan_substitute_back)(t->key_scores, t->rates, t->y, t->dvalue, t->drates, vp);
  }
  scan_factors pairs = {t->doutput, vp, 1, t->columns, SCAN_ROWS, vp}, key_pairs = {t->dvalue, vp, 1, t->columns, SCAN_ROWS, vp};
  FM(scan_product)(SCAN_ROWS, SCAN_ROWS, &pairs, NULL, t->dscores, SCAN_ROWS, NULL);
  if (delta) {
    // What is read is taken away: its gradient is minus that of the values.
    FM(scan_product)(SCAN_ROWS, SCAN_ROWS, &key_pairs, NULL, t->dkey_scores, SCAN_ROWS, NULL);
    for (int i = 0; i < SCAN_ROWS * SCAN_ROWS; i++) t->dkey_scores[i] = -t->dkey_scores[i];
  }
  FM(scan_read_back)(task, dstate, t->columns, t->transposed, t->dkey);
  if (state) {
    FM(scan_transpose_tile)(t->doutput, SCAN_ROWS, vp, t->doutput_columns);
    FM(scan_read_back)(task, state, t->doutput_columns, t->transposed, t->dquery);
    FM(scan_through)(state, dstate, kp, vp, t->total, t->through);
    if (delta) {
      FM(scan_transpose_tile)(t->dvalue, SCAN_ROWS, vp, t->doutput_columns);
      FM(scan_read_back)(task, state, t->doutput_columns, t->transposed, t->dread);
      for (int64_t x = 0; x < SCAN_ROWS * kp; x += FM_LANES) FM(v_store)(t->dread + x, -FM(v_load)(t->dread + x));
    }
  } else {
    memset(t->dquery, 0, sizeof(float) * (size_t)(SCAN_ROWS * kp));
    memset(t->dread, 0, sizeof(float) * (size_t)(SCAN_ROWS * kp));
    memset(t->through, 0, sizeof(float) * (size_t)kp);
  }
  if (delta) FM(scan_inside)(t, kp, 1); else FM(scan_inside)(t, kp, 0);
  if (!state) { memset(dstate, 0, sizeof(float) * (size_t)(kp * vp)); return; }
  FM(scan_decay_from_start)(t->gates, t->query, t->query, kp, 1);
  FM(scan_decay_from_start)(t->gates, t->key, t->key, kp, -1);
  scan_factors read = {t->key, 1, kp, t->dvalue, vp, SCAN_ROWS};
  FM(scan_update)(task, t->query, t->doutput, delta ? &read : NULL, t->total, dstate);
}

static void FM(scan_store_gradients)(const gated_scan_task *task, int64_t start, int64_t rows, const FM(scan_backward_tile) *t) {
  const fm_gated_scan_shape *s = task->shape;
  int64_t kp = task->key_padded, vp = task->value_padded, token = task->b * s->length + start;
  int64_t value_row = s->heads * s->value_width, value_at = token * value_row + task->h * s->value_width;
  int64_t key_row = s->heads * s->key_width, key_at = token * key_row + task->h * s->key_width;
  FM(scan_store_tile)(s->type, task->out.query, key_at, key_row, rows, s->key_width, kp, s->scale, t->dquery);
  FM(scan_store_tile)(s->type, task->out.key, key_at, key_row, rows, s->key_width, kp, 1, t->dkey);
  FM(scan_store_tile)(s->type, task->out.value, value_at, value_row, rows, s->value_width, vp, 1, t->dvalue);
  if (task->out.rate)
    for (int64_t r = 0; r < rows; r++) task->out.rate[(token + r) * s->heads + task->h] = t->drates[r];
  if (!task->out.gate) return;
  if (s->vector_gate) {
    FM(scan_store_tile)(FM_F32, task->out.gate, key_at, key_row, rows, s->key_width, kp, 1, t->dgate);
    return;
  }
  for (int64_t r = 0; r < rows; r++) {
    vf sum = FM(v_set)(0);
    for (int64_t x = 0; x < kp; x += FM_LANES) sum += FM(v_load)(t->dgate + r * kp + x);
    task->out.gate[(token + r) * s->heads + task->h] = FM(v_sum)(sum);
  }
}

/// Over a whole piece, chunk by chunk from the last to the first.
static void FM(scan_backward)(const gated_scan_task *task, float *scratch) {
  int64_t kp = task->key_padded, vp = task->value_padded, state_at = gated_scan_state_at(task);
  FM(scan_backward_tile) t;
  FM(scan_chunk) c = {.states = gated_scan_take(&scratch, GATED_SCAN_STATES * kp * vp),
                      .y = gated_scan_take(&scratch, FM_SCAN_CHUNK * vp)};
  float *dstate = gated_scan_take(&scratch, kp * vp);
  FM(scan_take_tile)(&t, &scratch, kp, vp);
  FM(scan_load_state)(task, task->dfinal_state ? task->dfinal_state + state_at : NULL, dstate);
  for (int64_t chunk = gated_scan_chunks(task->shape) - 1; chunk >= 0; chunk--) {
    FM(scan_again)(task, chunk, &t, &c);
    for (int64_t u = c.count - 1; u >= 0; u--) {
      int64_t start = c.start[u], rows = c.start[u + 1] - start;
      FM(scan_load_backward)(task, start, rows, c.y + (start - c.start[0]) * vp, &t);
      FM(scan_tile_gradients)(task, c.slot[u] >= 0 ? c.states + c.slot[u] * kp * vp : NULL, dstate, &t);
      FM(scan_store_gradients)(task, start, rows, &t);
    }
  }
  if (task->out.initial_state) FM(scan_store_state)(task, dstate, task->out.initial_state + state_at);
}
