// The forward of a scan in chunks, for some heads that share their queries and keys. Included once per processor path.

typedef struct {
  float *spare, *queries, *key_columns, *key_rows, *scores, *weights, *values, *last_values, *before, *inside, *packed, *kept, *states;
} FM(chunk_forward_scratch);

static int64_t FM(chunk_forward_floats)(const chunk_task *t, float *base, FM(chunk_forward_scratch) *s) {
  int64_t used = 0;
  s->spare = chunk_take(base, &used, CHUNK * (t->key_padded > t->key_pitch ? t->key_padded : t->key_pitch));
  s->queries = chunk_take(base, &used, CHUNK * t->key_pitch);
  s->key_columns = chunk_take(base, &used, t->key_pitch * CHUNK);
  s->key_rows = chunk_take(base, &used, t->key_padded * CHUNK);
  s->scores = chunk_take(base, &used, CHUNK * CHUNK);
  s->weights = chunk_take(base, &used, CHUNK * CHUNK);
  s->values = chunk_take(base, &used, CHUNK * t->value_padded);
  s->last_values = chunk_take(base, &used, CHUNK * t->value_padded);
  s->before = chunk_take(base, &used, CHUNK * t->value_padded);
  s->inside = chunk_take(base, &used, CHUNK * t->value_padded);
  s->packed = chunk_take(base, &used, t->key_padded * t->value_padded);
  s->kept = chunk_take(base, &used, t->value_padded);
  s->states = chunk_take(base, &used, t->block_heads * t->key_padded * t->value_padded);
  return used;
}

/// What all heads of the task share: queries and keys as operands, and scores_ij = scale <q_i, k_j> for j <= i.
FM_INLINE void FM(chunk_share)(const chunk_task *t, const int half, const fm_type type, int64_t start, int64_t rows,
                               const FM(chunk_forward_scratch) *s) {
  const fm_gated_scan_shape *shape = t->shape;
  const void *row[CHUNK];
  FM(chunk_point)(t, type, t->in.key, shape->key_stride, start, rows, t->key_head, 0, row);
  FM(at_pack_rows)(half, type, s->spare, t->key_pitch, row, rows, CHUNK, shape->key_width);
  FM(at_transpose)(s->key_columns, CHUNK, s->spare, t->key_pitch, CHUNK, t->key_units);
  FM(at_pack_summed)(half, type, s->spare, t->key_padded, row, rows, CHUNK, shape->key_width);
  FM(at_transpose)(s->key_rows, half ? CHUNK / 2 : CHUNK, s->spare, t->key_padded, half ? CHUNK / 2 : CHUNK, t->key_padded);
  FM(chunk_point)(t, type, t->in.query, shape->query_stride, start, rows, t->key_head, 0, row);
  FM(at_pack_rows)(half, type, s->queries, t->key_pitch, row, rows, CHUNK, shape->key_width);
  for (int64_t i = 0; i < rows; i += CHUNK_BLOCK)
    FM(at_product)(t->tile_unit, half, AT_SCALED, at_clamp(rows - i, 0, CHUNK_BLOCK), (i + CHUNK_BLOCK) / FM_LANES, t->key_units,
                   s->queries + i * t->key_pitch, t->key_pitch, s->key_columns, CHUNK, s->scores + i * CHUNK, CHUNK, shape->scale, NULL);
}

/// weights_ij = scores_ij L_ij as rows of a first operand, zeros after i up to the end of i's block.
FM_INLINE void FM(chunk_weigh)(const int half, int64_t rows, const float *decay, const float *scores, float *weights) {
  enum { VECTORS = CHUNK / FM_LANES };
  vf reach[VECTORS], one = FM(v_set)(1);  // L_ij of the row's j
  vi lane;
  for (int n = 0; n < FM_LANES; n++) lane[n] = n;
  for (int v = 0; v < VECTORS; v++) reach[v] = FM(v_set)(0);
  for (int64_t i = 0; i < rows; i++) {
    vf a = FM(v_set)(decay[i]);
    int64_t end = (i / CHUNK_BLOCK + 1) * CHUNK_BLOCK;
#pragma clang loop unroll(full)
    for (int v = 0; v < VECTORS; v++) {
      if (v * FM_LANES >= end) break;
      reach[v] = FM(v_select)((vi)(lane == FM(v_seti)((int32_t)i - v * FM_LANES)), one, FM(chunk_decayed)(reach[v], a));
      // A later key's score is hidden even when it is NaN; later values are not, within i's block, as in attention.
      vf w = reach[v] * FM(v_load)(scores + i * CHUNK + v * FM_LANES);
      w = FM(v_select)((vi)(lane > FM(v_seti)((int32_t)i - v * FM_LANES)), FM(v_set)(0), w);
      if (half) FM(v_store_bf16)((uint16_t *)(weights + i * (CHUNK / 2)) + v * FM_LANES, w);
      else FM(v_store)(weights + i * CHUNK + v * FM_LANES, w);
    }
  }
}

/// Outputs: o_i = inside_i + P_i before_i.
FM_INLINE void FM(chunk_write_outputs)(const chunk_task *t, const fm_type type, int64_t start, int64_t rows, int64_t head,
                                       const float *from_start, const float *inside, const float *before) {
  const fm_gated_scan_shape *shape = t->shape;
  const int64_t vp = t->value_padded, width = t->values;
  for (int64_t i = 0; i < rows; i++, inside += vp, before += vp) {
    int64_t at = chunk_row_at(t, start + i, shape->heads, head, shape->value_width) + t->first_value;
    void *to = (char *)t->output + (type == FM_BF16 ? 2 : 4) * at;
    // A state that is forgotten may have been infinite.
    const int reaches = from_start[i] != 0;
    vf factor = FM(v_set)(from_start[i]);
    for (int64_t x = 0; x < vp; x += FM_LANES) {
      vf y = FM(v_load)(inside + x);
      if (reaches) y = FM(v_fma)(factor, FM(v_load)(before + x), y);
      FM(chunk_write)(type, to, x, y, width);
    }
  }
}

/// One head's chunk: its outputs, and its state after it.
FM_INLINE void FM(chunk_forward_head)(const chunk_task *t, const int half, const fm_type type, int64_t start, int64_t rows, int64_t head,
                                      const FM(chunk_forward_scratch) *s, float *state) {
  const fm_gated_scan_shape *shape = t->shape;
  int64_t vp = t->value_padded, vectors = vp / FM_LANES, pitch = half ? CHUNK / 2 : CHUNK;
  const void *row[CHUNK];
  FM(chunk_decays) d;
  int64_t bytes = type == FM_BF16 ? 2 : 4, out_at = chunk_row_at(t, start, shape->heads, head, shape->value_width) + t->first_value;
  FM(chunk_fetch)(t->output, out_at, shape->heads * shape->value_width, rows, t->values, bytes, 1);
  if (start + 2 * CHUNK <= shape->length)
    FM(chunk_fetch)(t->in.value, t->b * shape->value_stride[0] + (start + CHUNK) * shape->value_stride[1] +
                    head * shape->value_stride[2] + t->first_value, shape->value_stride[1], CHUNK, t->values, bytes, 0);
  FM(chunk_load_decays)(t, start, rows, head, &d);
  FM(chunk_point_to_values)(t, type, start, rows, head, row);
  FM(chunk_pack_summed)(half, type, row, rows, t->values, vp, d.weight, d.to_end, s->values, s->last_values);
  const float *packed = FM(chunk_pack_state)(half, state, shape->key_width, vp, s->packed);
  FM(at_product)(t->tile_unit, half, AT_SCALED, rows, vectors, t->key_units, s->queries, t->key_pitch, packed, vp, s->before, vp,
                 shape->scale, NULL);
  FM(chunk_weigh)(half, rows, d.decay, s->scores, s->weights);
  for (int64_t i = 0; i < rows; i += CHUNK_BLOCK)
    FM(at_product)(t->tile_unit, half, AT_SCALED, at_clamp(rows - i, 0, CHUNK_BLOCK), vectors, (i + CHUNK_BLOCK) / (1 + half),
                   s->weights + i * pitch, pitch, s->values, vp, s->inside + i * vp, vp, 1, NULL);
  FM(chunk_write_outputs)(t, type, start, rows, head, d.from_start, s->inside, s->before);
  FM(chunk_update)(t, half, rows, d.total, s->key_rows, s->last_values, s->kept, state);
}

FM_INLINE void FM(chunk_forward_body)(const chunk_task *t, const int half, const fm_type type, float *scratch) {
  const fm_gated_scan_shape *shape = t->shape;
  FM(chunk_forward_scratch) s;
  FM(chunk_forward_floats)(t, scratch, &s);
  int64_t size = t->key_padded * t->value_padded;
  for (int64_t h = 0; h < t->heads; h++)
    FM(chunk_load_state)(t, t->in.initial_state ? t->in.initial_state + chunk_state_at(t, t->first_head + h) : NULL, s.states + h * size);
  for (int64_t chunk = 0; chunk < chunk_count(shape); chunk++) {
    int64_t rows = chunk_rows(shape, chunk);
    FM(chunk_share)(t, half, type, chunk * CHUNK, rows, &s);
    for (int64_t h = 0; h < t->heads; h++) {
      if (t->chunk_states) FM(chunk_store_state)(t, s.states + h * size, t->chunk_states + chunk_kept_at(t, chunk, t->first_head + h));
      FM(chunk_forward_head)(t, half, type, chunk * CHUNK, rows, t->first_head + h, &s, s.states + h * size);
    }
  }
  for (int64_t h = 0; h < t->heads; h++)
    FM(chunk_store_state)(t, s.states + h * size, t->final_state + chunk_state_at(t, t->first_head + h));
}
