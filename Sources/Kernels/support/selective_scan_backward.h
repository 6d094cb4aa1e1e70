// The backward of the selective scan, chunk by chunk from the last. Included once per processor path.

/// Runs a chunk again for one vector of channels: the state after each of its tokens (the one before it first), the decays, and
/// y, which the gate's gradient needs.
FM_INLINE void FM(selective_rerun)(const fm_type type, const selective_task *t, int64_t c, int64_t first, int64_t last) {
  int64_t states = t->shape->states, row = states * FM_LANES;
  const float *a = t->a + c * states;
  memcpy(t->run_states, t->state + c * states, sizeof(float) * (size_t)row);
  for (int64_t i = first; i < last; i++) {
    float *before = t->run_states + (i - first) * row, *after = before + row, *decays = t->run_decays + (i - first) * row;
    FM(selective_fetch)(type, t, i, c, -FM_SELECTIVE_CHUNK);
    // What a document's start forgets nobody reads again: its decays count as zero.
    int starts = selective_resets(t, i);
    if (!selective_valid(t, i)) {
      if (starts) memset(after, 0, sizeof(float) * (size_t)row);
      else memcpy(after, before, sizeof(float) * (size_t)row);
      continue;
    }
    FM(selective_token) token = FM(selective_read)(type, t, i, c);
    const float *b = t->b_rows + (i - first) * states, *read = t->c_rows + (i - first) * states;
    vf input = token.step * token.x, y = token.skip * token.x;
    for (int64_t n = 0; n < states; n++) {
      vf decay = starts ? FM(v_set)(0) : FM(selective_exp2)(token.step * FM(v_load)(a + n * FM_LANES));
      vf state = FM(v_fma)(decay, FM(v_load)(before + n * FM_LANES), input * FM(v_set)(b[n]));
      FM(v_store)(decays + n * FM_LANES, decay);
      FM(v_store)(after + n * FM_LANES, state);
      y = FM(v_fma)(state, FM(v_set)(read[n]), y);
    }
    FM(v_store)(t->run_outputs + (i - first) * FM_LANES, y);
  }
}

/// What one token's gradients read and add to, state by state.
typedef struct {
  const float *before, *after, *decays, *a;
  float *dstate, *da;
  const float *b, *c;
  vf dy, input, step, dinput, dstep;
} FM(selective_states);

/// Adds the sums over the lanes of 16 parts to a row.
FM_INLINE void FM(selective_add_sums)(const vf *parts, float *row) {
  float sums[16];
  FM(scan_sum16)(parts, sums);
  for (int x = 0; x < 16; x += FM_LANES) FM(v_store)(row + x, FM(v_load)(row + x) + FM(v_load)(sums + x));
}

/// Up to 16 states of one token: their gradients, and their parts of those of b and c. With a constant count, the usual 16, the
/// parts stay in registers.
FM_INLINE void FM(selective_states_back)(FM(selective_states) *t, int64_t n, const int count, float *db, float *dc) {
  vf parts[16], dinput = t->dinput, dstep = t->dstep;
  for (int i = 0; i < 16; i++) parts[i] = i < count ? t->dy * FM(v_load)(t->after + (n + i) * FM_LANES) : FM(v_set)(0);
  FM(selective_add_sums)(parts, dc + n);
  for (int i = 0; i < 16; i++) {
    if (i >= count) { parts[i] = FM(v_set)(0); continue; }
    int64_t lane = (n + i) * FM_LANES;
    vf g = FM(v_fma)(t->dy, FM(v_set)(t->c[n + i]), FM(v_load)(t->dstate + lane));
    parts[i] = g * t->input;
    dinput = FM(v_fma)(g, FM(v_set)(t->b[n + i]), dinput);
    g *= FM(v_load)(t->decays + lane);
    FM(v_store)(t->dstate + lane, g);
    vf through = g * FM(v_load)(t->before + lane);
    dstep = FM(v_fma)(through, FM(v_load)(t->a + lane), dstep);
    FM(v_store)(t->da + lane, FM(v_fma)(through, t->step, FM(v_load)(t->da + lane)));
  }
  FM(selective_add_sums)(parts, db + n);
  t->dinput = dinput;
  t->dstep = dstep;
}

/// The gradients of one token for one vector of channels; t->dstate is that of the state after it and becomes that of the one before.
FM_INLINE void FM(selective_step_back)(const fm_type type, const selective_task *t, int64_t i, int64_t first, int64_t c,
                                       vf *dskip, vf *dbias) {
  const fm_selective_scan_shape *s = t->shape;
  int64_t states = s->states, row = states * FM_LANES, at = i - first;
  const float *before = t->run_states + at * row, *after = before + row, *decays = t->run_decays + at * row;
  const float *a = t->a + c * states, *b = t->b_rows + at * states, *read = t->c_rows + at * states;
  float *dstate = t->dstate + c * states, *da = t->da + c * states;
  FM(selective_token) token = FM(selective_read)(type, t, i, c);
  vf dy = FM(v_set)(0);
  if (t->doutput)
    dy = FM(scan_read_n)(type, t->doutput, (t->b * s->length + i) * s->channels + t->first + c, t->channels - c);
  if (s->gate) {
    vf gate = FM(selective_read_gate)(type, t, i, c), sigmoid = FM(v_sigmoid)(gate), one = FM(v_set)(1);
    vf slope = sigmoid * FM(v_fma)(gate, one - sigmoid, one);
    FM(selective_write)(type, t, t->gradients->dgate, i, c, dy * FM(v_load)(t->run_outputs + at * FM_LANES) * slope);
    dy *= gate * sigmoid;
  }
  FM(selective_states) x = {before, after, decays, a, dstate, da, b, read, dy, token.step * token.x, token.step,
                            FM(v_set)(0), FM(v_set)(0)};
  float *db = t->db_rows + at * t->states_padded, *dc = t->dc_rows + at * t->states_padded;
  int64_t n = 0;
  for (; n + 16 <= states; n += 16) FM(selective_states_back)(&x, n, 16, db, dc);
  if (n < states) FM(selective_states_back)(&x, n, (int)(states - n), db, dc);
  vf dinput = x.dinput, dstep = x.dstep;
  // t->a holds a log2(e).
  dstep = FM(v_fma)(dinput, token.x, dstep * FM(v_set)(0.69314718055994531f)) * FM(v_sigmoid)(token.raw);
  *dskip = FM(v_fma)(dy, token.x, *dskip);
  *dbias += dstep;
  FM(selective_write)(type, t, t->gradients->dstep, i, c, dstep);
  FM(selective_write)(type, t, t->gradients->dx, i, c, FM(v_fma)(dinput, token.step, dy * token.skip));
}

FM_INLINE void FM(selective_walk_back)(const fm_type type, const selective_task *t, int64_t c, int64_t first, int64_t last) {
  int64_t states = t->shape->states;
  vf dskip = FM(v_set)(0), dbias = FM(v_set)(0);
  memset(t->da + c * states, 0, sizeof(float) * (size_t)(states * FM_LANES));
  for (int64_t i = last - 1; i >= first; i--) {
    if (!selective_valid(t, i)) {
      FM(selective_write)(type, t, t->gradients->dx, i, c, FM(v_set)(0));
      FM(selective_write)(type, t, t->gradients->dstep, i, c, FM(v_set)(0));
      if (t->shape->gate) FM(selective_write)(type, t, t->gradients->dgate, i, c, FM(v_set)(0));
      if (selective_resets(t, i)) memset(t->dstate + c * states, 0, sizeof(float) * (size_t)(states * FM_LANES));
      continue;
    }
    FM(selective_step_back)(type, t, i, first, c, &dskip, &dbias);
  }
  // Sums of a chunk at a time, so that rounding does not pile up with the number of tokens.
  int64_t channels = t->shape->channels, left = t->channels - c;
  float *sums = t->sums + t->b * (states + 2) * channels + t->first + c;
  for (int64_t n = 0; n < states + 2; n++, sums += channels) {
    vf part = n < states ? FM(v_load)(t->da + c * states + n * FM_LANES) : n == states ? dskip : dbias;
    FM(scan_write_n)(FM_F32, sums, 0, FM(scan_read_n)(FM_F32, sums, 0, left) + part, left);
  }
}

static void FM(selective_backward)(const selective_task *t) {
  const fm_selective_scan_shape *s = t->shape;
  int64_t states = s->states, chunks = selective_chunks(s), padded = t->states_padded;
  float *carried = t->gradients->dinitial_state + t->b * states * s->channels + t->first;
  FM(selective_load_block)(t, s->a + t->first, 1.44269504088896341f, t->a);
  FM(selective_load_block)(t, carried, 1, t->dstate);
  for (int64_t chunk = selective_chunk_of(t->segment_last - 1); chunk >= selective_chunk_of(t->segment_first); chunk--) {
    int64_t first = chunk * FM_SELECTIVE_CHUNK, last = selective_end(s, first + FM_SELECTIVE_CHUNK);
    FM(selective_load_block)(t, t->kept_states + (t->b * chunks + chunk) * states * s->channels + t->first, 1, t->state);
    FM(selective_load_rows)(s->type, s->b, s->b_stride, t->b, first, last, states, t->b_rows);
    FM(selective_load_rows)(s->type, s->c, s->c_stride, t->b, first, last, states, t->c_rows);
    memset(t->db_rows, 0, sizeof(float) * (size_t)(2 * FM_SELECTIVE_CHUNK * padded));
    for (int64_t c = 0; c < t->channels; c += FM_LANES)
      if (s->type == FM_F32) {
        FM(selective_rerun)(FM_F32, t, c, first, last);
        FM(selective_walk_back)(FM_F32, t, c, first, last);
      } else {
        FM(selective_rerun)(FM_BF16, t, c, first, last);
        FM(selective_walk_back)(FM_BF16, t, c, first, last);
      }
    float *parts = t->parts + (first - t->segment_first) * 2 * states;
    for (int64_t at = 0; at < last - first; at++, parts += 2 * states) {
      memcpy(parts, t->db_rows + at * padded, sizeof(float) * (size_t)states);
      memcpy(parts + states, t->dc_rows + at * padded, sizeof(float) * (size_t)states);
    }
  }
  FM(selective_store_block)(t, t->dstate, carried);
}

/// db and dc of some positions of a segment: the sums of what the blocks of channels left, in order.
static void FM(selective_sum_parts)(const selective_task *t, int64_t blocks, int64_t block_step, int64_t first, int64_t last) {
  int64_t states = t->shape->states;
  for (int64_t i = first; i < last; i++)
    for (int64_t half = 0; half < 2; half++)
      for (int64_t n = 0; n < states; n += FM_LANES) {
        const float *part = t->parts + ((i - t->segment_first) * 2 + half) * states;
        vf sum = FM(v_set)(0);
        for (int64_t block = 0; block < blocks; block++) sum += FM(scan_read_n)(FM_F32, part, block * block_step + n, states - n);
        FM(scan_write_n)(t->shape->type, half ? t->gradients->dc : t->gradients->db, (t->b * t->shape->length + i) * states + n,
                         sum, states - n);
      }
}
