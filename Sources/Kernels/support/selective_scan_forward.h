// The selective scan from the first token to the last. Included once per processor path.

/// Forward of one vector of channels through one chunk.
FM_INLINE void FM(selective_run)(const fm_type type, const selective_task *t, int64_t c, int64_t first, int64_t last) {
  int64_t states = t->shape->states;
  float *h = t->state + c * states;
  const float *a = t->a + c * states;
  for (int64_t i = first; i < last; i++) {
    FM(selective_fetch)(type, t, i, c, FM_SELECTIVE_CHUNK);
    if (selective_resets(t, i)) memset(h, 0, sizeof(float) * FM_LANES * (size_t)states);
    if (!selective_valid(t, i)) {
      FM(selective_write)(type, t, t->output, i, c, FM(v_set)(0));
      continue;
    }
    FM(selective_token) token = FM(selective_read)(type, t, i, c);
    const float *b = t->b_rows + (i - first) * states, *read = t->c_rows + (i - first) * states;
    vf input = token.step * token.x, y = token.skip * token.x;
    for (int64_t n = 0; n < states; n++) {
      vf decay = FM(selective_exp2)(token.step * FM(v_load)(a + n * FM_LANES));
      vf state = FM(v_fma)(decay, FM(v_load)(h + n * FM_LANES), input * FM(v_set)(b[n]));
      FM(v_store)(h + n * FM_LANES, state);
      y = FM(v_fma)(state, FM(v_set)(read[n]), y);
    }
    if (t->shape->gate) {
      vf gate = FM(selective_read_gate)(type, t, i, c);
      y *= gate * FM(v_sigmoid)(gate);
    }
    FM(selective_write)(type, t, t->output, i, c, y);
  }
}

static void FM(selective_forward)(const selective_task *t) {
  const fm_selective_scan_shape *s = t->shape;
  int64_t block = t->b * s->states * s->channels + t->first, chunks = selective_chunks(s);
  FM(selective_load_block)(t, s->a + t->first, 1.44269504088896341f, t->a);
  FM(selective_load_block)(t, t->initial_state ? t->initial_state + block : NULL, 1, t->state);
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    int64_t first = chunk * FM_SELECTIVE_CHUNK, last = selective_end(s, first + FM_SELECTIVE_CHUNK);
    if (t->chunk_states)
      FM(selective_store_block)(t, t->state, t->chunk_states + (t->b * chunks + chunk) * s->states * s->channels + t->first);
    FM(selective_load_rows)(s->type, s->b, s->b_stride, t->b, first, last, s->states, t->b_rows);
    FM(selective_load_rows)(s->type, s->c, s->c_stride, t->b, first, last, s->states, t->c_rows);
    for (int64_t c = 0; c < t->channels; c += FM_LANES)
      if (s->type == FM_F32) FM(selective_run)(FM_F32, t, c, first, last);
      else FM(selective_run)(FM_BF16, t, c, first, last);
  }
  FM(selective_store_block)(t, t->state, t->final_state + block);
}
