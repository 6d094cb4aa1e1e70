// The backward of a scan in chunks, for some heads that share their queries and keys. Included once per processor path.
//
// Names as in chunk_scan_tile.h; d... are gradients of what they name. Pairs are kept by key: scores_ji for i >= j.

typedef struct {
  // Of all heads.
  float *spare, *keys, *query_columns, *query_rows, *query_summed, *key_summed, *scores, *dscores, *dquery, *dkey, *zeros, *dstates;
  // Of one head.
  float *written, *doutput, *doutput_columns, *doutput_summed, *doutput_last, *pairs, *weights, *after, *inside, *read;
  float *state, *packed, *columns, *kept;
} FM(chunk_backward_scratch);

static int64_t FM(chunk_backward_floats)(const chunk_task *t, float *base, FM(chunk_backward_scratch) *s) {
  int64_t used = 0;
  int64_t kp = t->key_padded, vp = t->value_padded, ku = t->key_pitch, vu = t->value_pitch;
  int64_t widest = kp > vp ? kp : vp;
  s->spare = chunk_take(base, &used, (widest > CHUNK ? widest : CHUNK) * widest);
  float **of_keys[] = {&s->query_rows, &s->query_summed, &s->key_summed, &s->dquery, &s->dkey, &s->read};
  float **of_values[] = {&s->doutput_summed, &s->doutput_last, &s->after, &s->inside};
  float **of_pairs[] = {&s->scores, &s->dscores, &s->pairs, &s->weights};
  float **of_states[] = {&s->state, &s->packed, &s->columns};
  for (int i = 0; i < 6; i++) *of_keys[i] = chunk_take(base, &used, CHUNK * kp);
  for (int i = 0; i < 4; i++) *of_values[i] = chunk_take(base, &used, CHUNK * vp);
  for (int i = 0; i < 4; i++) *of_pairs[i] = chunk_take(base, &used, CHUNK * CHUNK);
  for (int i = 0; i < 3; i++) *of_states[i] = chunk_take(base, &used, kp * vp);
  s->keys = chunk_take(base, &used, CHUNK * ku);
  s->query_columns = chunk_take(base, &used, ku * CHUNK);
  s->written = chunk_take(base, &used, CHUNK * vu);
  s->doutput = chunk_take(base, &used, CHUNK * vu);
  s->doutput_columns = chunk_take(base, &used, vu * CHUNK);
  s->zeros = chunk_take(base, &used, vp);
  s->kept = chunk_take(base, &used, vp);
  s->dstates = chunk_take(base, &used, t->block_heads * kp * vp);
  return used;
}

FM_INLINE void FM(chunk_share_backward)(const chunk_task *t, const int half, const fm_type type, int64_t start, int64_t rows,
                                        const FM(chunk_backward_scratch) *s) {
  const fm_gated_scan_shape *shape = t->shape;
  int64_t units = half ? CHUNK / 2 : CHUNK;
  const void *row[CHUNK];
  FM(chunk_point)(t, type, t->in.query, shape->query_stride, start, rows, t->key_head, 0, row);
  FM(at_pack_rows)(half, type, s->spare, t->key_pitch, row, rows, CHUNK, shape->key_width);
  FM(at_transpose)(s->query_columns, CHUNK, s->spare, t->key_pitch, CHUNK, t->key_units);
  FM(at_pack_summed)(half, type, s->query_summed, t->key_padded, row, rows, CHUNK, shape->key_width);
  // All of the padding too: tile instructions multiply 16 rows at a time, and what they leave there is read.
  FM(at_transpose)(s->query_rows, units, s->query_summed, t->key_padded, units, t->key_padded);
  FM(chunk_point)(t, type, t->in.key, shape->key_stride, start, rows, t->key_head, 0, row);
  FM(at_pack_rows)(half, type, s->keys, t->key_pitch, row, rows, CHUNK, shape->key_width);
  FM(at_pack_summed)(half, type, s->key_summed, t->key_padded, row, rows, CHUNK, shape->key_width);
  for (int64_t j = 0; j < rows; j += CHUNK_BLOCK)
    FM(at_product)(t->tile_unit, half, AT_SCALED, at_clamp(rows - j, 0, CHUNK_BLOCK), (CHUNK - j) / FM_LANES, t->key_units,
                   s->keys + j * t->key_pitch, t->key_pitch, s->query_columns + j, CHUNK, s->scores + j * CHUNK + j, CHUNK,
                   shape->scale, NULL);
  memset(s->dscores, 0, sizeof(float) * CHUNK * CHUNK);
  memset(s->dquery, 0, sizeof(float) * (size_t)(CHUNK * t->key_padded));
  memset(s->dkey, 0, sizeof(float) * (size_t)(CHUNK * t->key_padded));
}

/// to_r += factor_r from_r, and dots_r = factor_r <from_r, row_r>. A factor of zero hides what was infinite.
FM_INLINE void FM(chunk_add_read)(const fm_type type, int64_t rows, int64_t width, int64_t padded, const float *factor,
                                  const float *from, const void *const *row, float *to, float *dots) {
  for (int64_t r = 0; r < rows; r++, from += padded, to += padded) {
    vf f = FM(v_set)(factor[r]), sum = FM(v_set)(0);
    const void *of = row[r];
    dots[r] = 0;
    if (factor[r] == 0) continue;
    for (int64_t x = 0; x < padded; x += FM_LANES) {
      vf v = f * FM(v_load)(from + x);
      FM(v_store)(to + x, FM(v_load)(to + x) + v);
      sum = FM(v_fma)(v, FM(chunk_read)(type, of, x, width), sum);
    }
    dots[r] = FM(v_sum)(sum);
  }
}

/// Gradients of values and weights: du_j = inside_j + R_j after_j, dv_j = w_j du_j, dw_j = <du_j, v_j>.
FM_INLINE void FM(chunk_write_values)(const chunk_task *t, const fm_type type, int64_t start, int64_t rows, int64_t head,
                                      const FM(chunk_decays) *d, const void *const *row, const FM(chunk_backward_scratch) *s) {
  const fm_gated_scan_shape *shape = t->shape;
  const int64_t width = shape->value_width, vp = t->value_padded;
  const float *inside = s->inside, *after = s->after;
  const int weighs = t->out.weight != NULL;
  for (int64_t j = 0; j < rows; j++, inside += vp, after += vp) {
    // What is forgotten by the chunk's end may have an infinite gradient.
    const int reaches = d->to_end[j] != 0;
    const void *v = row[j];
    void *to = (char *)t->out.value + (type == FM_BF16 ? 2 : 4) * chunk_row_at(t, start + j, shape->heads, head, width);
    vf later = FM(v_set)(d->to_end[j]), weight = FM(v_set)(d->weight[j]), sum = FM(v_set)(0);
    for (int64_t x = 0; x < vp; x += FM_LANES) {
      vf du = FM(v_load)(inside + x);
      if (reaches) du = FM(v_fma)(later, FM(v_load)(after + x), du);
      FM(chunk_write)(type, to, x, weight * du, width);
      if (weighs) sum = FM(v_fma)(du, FM(chunk_read)(type, v, x, width), sum);
    }
    if (weighs) t->out.weight[chunk_row_at(t, start + j, shape->heads, head, 1)] = FM(v_sum)(sum);
  }
}

/// dgates from what runs between pairs, out of the state (`read`), into it (`added`) and all the way through it.
static void FM(chunk_write_gates)(const chunk_task *t, int64_t start, int64_t rows, int64_t head, const float *between,
                                  const float *read, const float *added, float through) {
  float later[CHUNK + 1], earlier = 0;
  later[rows] = 0;
  for (int64_t i = rows - 1; i >= 0; i--) later[i] = later[i + 1] + read[i];
  for (int64_t i = 0; i < rows; i++) {
    t->out.gate[chunk_row_at(t, start + i, t->shape->heads, head, 1)] = between[i] + later[i] + earlier + through;
    earlier += added[i];
  }
}

static float FM(chunk_through)(const float *state, const float *dstate, int64_t count) {
  vf sum = FM(v_set)(0), other = FM(v_set)(0);
  for (int64_t x = 0; x < count; x += 2 * FM_LANES) {
    sum = FM(v_fma)(FM(v_load)(state + x), FM(v_load)(dstate + x), sum);
    other = FM(v_fma)(FM(v_load)(state + x + FM_LANES), FM(v_load)(dstate + x + FM_LANES), other);
  }
  return FM(v_sum)(sum + other);
}

/// A state's transpose as a second operand, for sums over values.
FM_INLINE void FM(chunk_pack_columns)(const chunk_task *t, const int half, const float *state, float *spare, float *to) {
  int64_t pitch = half ? t->value_pitch : t->value_padded;
  const float *rows = FM(chunk_narrow)(half, state, t->key_padded, t->value_padded, pitch, spare);
  FM(at_transpose)(to, t->key_padded, rows, pitch, t->key_padded, t->value_units);
}

/// Where a head's gradients will be written, and what the chunk before reads.
FM_INLINE void FM(chunk_fetch_backward)(const chunk_task *t, const fm_type type, int64_t start, int64_t rows, int64_t head) {
  const fm_gated_scan_shape *s = t->shape;
  int64_t bytes = type == FM_BF16 ? 2 : 4, row = s->heads * s->value_width, width = s->value_width;
  int64_t here = chunk_row_at(t, start, s->heads, head, width), before = here - CHUNK * row;
  FM(chunk_fetch)(t->out.value, here, row, rows, width, bytes, 1);
  if (start < CHUNK) return;
  if (t->doutput) FM(chunk_fetch)(t->doutput, before, row, CHUNK, width, bytes, 0);
  FM(chunk_fetch)(t->in.value, t->b * s->value_stride[0] + (start - CHUNK) * s->value_stride[1] + head * s->value_stride[2],
                  s->value_stride[1], CHUNK, width, bytes, 0);
}

/// One head's chunk; `dstate` is the gradient of the state after it and becomes that of the state before.
FM_INLINE void FM(chunk_backward_head)(const chunk_task *t, const int half, const fm_type type, int64_t chunk, int64_t rows,
                                       int64_t head, const FM(chunk_backward_scratch) *s, float *dstate) {
  const fm_gated_scan_shape *shape = t->shape;
  int64_t start = chunk * CHUNK, kp = t->key_padded, vp = t->value_padded, vectors = vp / FM_LANES;
  int64_t pitch = half ? CHUNK / 2 : CHUNK, row_stride[3] = {shape->length * shape->heads * shape->value_width,
                                                            shape->heads * shape->value_width, shape->value_width};
  const void *row[CHUNK], *gradient[CHUNK];
  float ones[CHUNK], first[CHUNK], between[CHUNK], read[CHUNK], added[CHUNK];
  FM(chunk_decays) d;
  FM(chunk_fetch_backward)(t, type, start, rows, head);
  FM(chunk_load_decays)(t, start, rows, head, &d);
  for (int64_t i = 0; i < CHUNK; i++) { ones[i] = 1; first[i] = shape->scale * d.from_start[i]; gradient[i] = s->zeros; }
  FM(chunk_point_to_values)(t, type, start, rows, head, row);
  if (t->doutput) FM(chunk_point)(t, type, t->doutput, row_stride, start, rows, head, 0, gradient);
  FM(chunk_pack_rows)(half, type, row, rows, shape->value_width, t->value_pitch, d.weight, s->written);
  FM(at_pack_rows)(half, type, s->doutput, t->value_pitch, gradient, rows, CHUNK, shape->value_width);
  FM(at_transpose)(s->doutput_columns, CHUNK, s->doutput, t->value_pitch, CHUNK, t->value_units);
  FM(chunk_pack_summed)(half, type, gradient, rows, shape->value_width, vp, ones, first, s->doutput_summed, s->doutput_last);

  for (int64_t j = 0; j < rows; j += CHUNK_BLOCK)
    FM(at_product)(t->tile_unit, half, AT_SCALED, at_clamp(rows - j, 0, CHUNK_BLOCK), (CHUNK - j) / FM_LANES, t->value_units,
                   s->written + j * t->value_pitch, t->value_pitch, s->doutput_columns + j, CHUNK, s->pairs + j * CHUNK + j, CHUNK,
                   1, NULL);
  FM(chunk_pair_gradients)(half, rows, shape->scale, d.decay, s->scores, s->pairs, s->weights, s->dscores);

  const float *packed = FM(chunk_pack_state)(half, dstate, shape->key_width, vp, s->packed);
  FM(at_product)(t->tile_unit, half, AT_SCALED, rows, vectors, t->key_units, s->keys, t->key_pitch, packed, vp, s->after, vp, 1, NULL);
  for (int64_t j = 0; j < rows; j += CHUNK_BLOCK)
    FM(at_product)(t->tile_unit, half, AT_SCALED, at_clamp(rows - j, 0, CHUNK_BLOCK), vectors, (CHUNK - j) / (1 + half),
                   s->weights + j * pitch + j / (1 + half), pitch, s->doutput_summed + j / (1 + half) * vp, vp, s->inside + j * vp,
                   vp, 1, NULL);
  FM(chunk_write_values)(t, type, start, rows, head, &d, row, s);

  const float *kept = t->kept_states ? t->kept_states + chunk_kept_at(t, chunk, head)
                      : t->in.initial_state ? t->in.initial_state + chunk_state_at(t, head) : NULL;
  FM(chunk_load_state)(t, kept, s->state);
  FM(chunk_pack_columns)(t, half, s->state, s->spare, s->columns);
  FM(at_product)(t->tile_unit, half, AT_SCALED, rows, kp / FM_LANES, t->value_units, s->doutput, t->value_pitch, s->columns, kp, s->read,
                 kp, 1, NULL);
  FM(chunk_point)(t, type, t->in.query, shape->query_stride, start, rows, t->key_head, 0, row);
  FM(chunk_add_read)(type, rows, shape->key_width, kp, first, s->read, row, s->dquery, read);
  FM(chunk_pack_columns)(t, half, dstate, s->spare, s->columns);
  FM(at_product)(t->tile_unit, half, AT_SCALED, rows, kp / FM_LANES, t->value_units, s->written, t->value_pitch, s->columns, kp, s->read,
                 kp, 1, NULL);
  FM(chunk_point)(t, type, t->in.key, shape->key_stride, start, rows, t->key_head, 0, row);
  FM(chunk_add_read)(type, rows, shape->key_width, kp, d.to_end, s->read, row, s->dkey, added);

  if (t->out.gate) {
    FM(chunk_gates_between)(rows, s->pairs, between);
    float through = d.total == 0 ? 0 : d.total * FM(chunk_through)(s->state, dstate, kp * vp);
    FM(chunk_write_gates)(t, start, rows, head, between, read, added, through);
  }
  FM(chunk_update)(t, half, rows, d.total, s->query_rows, s->doutput_last, s->kept, dstate);
}

/// Queries' and keys' gradients through the pairs of all heads, and writing them.
FM_INLINE void FM(chunk_finish_shared)(const chunk_task *t, const int half, const fm_type type, int64_t start, int64_t rows,
                                       const FM(chunk_backward_scratch) *s) {
  const fm_gated_scan_shape *shape = t->shape;
  int64_t kp = t->key_padded, pitch = half ? CHUNK / 2 : CHUNK;
  const float *by_key = FM(chunk_narrow)(half, s->dscores, CHUNK, CHUNK, pitch, s->weights);
  for (int64_t j = 0; j < rows; j += CHUNK_BLOCK)
    FM(at_product)(t->tile_unit, half, AT_ADD, at_clamp(rows - j, 0, CHUNK_BLOCK), kp / FM_LANES, (CHUNK - j) / (1 + half),
                   by_key + j * pitch + j / (1 + half), pitch, s->query_summed + j / (1 + half) * kp, kp, s->dkey + j * kp, kp, 1,
                   NULL);
  FM(at_transpose)(s->pairs, CHUNK, s->dscores, CHUNK, CHUNK, CHUNK);
  const float *by_query = FM(chunk_narrow)(half, s->pairs, CHUNK, CHUNK, pitch, s->weights);
  for (int64_t i = 0; i < rows; i += CHUNK_BLOCK)
    FM(at_product)(t->tile_unit, half, AT_ADD, at_clamp(rows - i, 0, CHUNK_BLOCK), kp / FM_LANES, (i + CHUNK_BLOCK) / (1 + half),
                   by_query + i * pitch, pitch, s->key_summed, kp, s->dquery + i * kp, kp, 1, NULL);
  const int parts = t->dquery_parts != NULL;
  int64_t part = t->block * shape->batch * shape->length * shape->key_heads * shape->key_width;
  for (int64_t r = 0; r < rows; r++) {
    int64_t at = chunk_row_at(t, start + r, shape->key_heads, t->key_head, shape->key_width), bytes = type == FM_BF16 ? 2 : 4;
    for (int64_t x = 0; x < kp; x += FM_LANES) {
      vf dq = FM(v_load)(s->dquery + r * kp + x), dk = FM(v_load)(s->dkey + r * kp + x);
      if (parts) {
        FM(chunk_write)(FM_F32, t->dquery_parts + part + at, x, dq, shape->key_width);
        FM(chunk_write)(FM_F32, t->dkey_parts + part + at, x, dk, shape->key_width);
      } else {
        FM(chunk_write)(type, (char *)t->out.query + bytes * at, x, dq, shape->key_width);
        FM(chunk_write)(type, (char *)t->out.key + bytes * at, x, dk, shape->key_width);
      }
    }
  }
}

/// Over a whole piece, chunk by chunk from the last to the first.
FM_INLINE void FM(chunk_backward_body)(const chunk_task *t, const int half, const fm_type type, float *scratch) {
  const fm_gated_scan_shape *shape = t->shape;
  FM(chunk_backward_scratch) s;
  FM(chunk_backward_floats)(t, scratch, &s);
  int64_t size = t->key_padded * t->value_padded;
  memset(s.zeros, 0, sizeof(float) * (size_t)t->value_padded);
  for (int64_t h = 0; h < t->heads; h++)
    FM(chunk_load_state)(t, t->dfinal_state ? t->dfinal_state + chunk_state_at(t, t->first_head + h) : NULL, s.dstates + h * size);
  for (int64_t chunk = chunk_count(shape) - 1; chunk >= 0; chunk--) {
    int64_t rows = chunk_rows(shape, chunk);
    FM(chunk_share_backward)(t, half, type, chunk * CHUNK, rows, &s);
    for (int64_t h = 0; h < t->heads; h++) FM(chunk_backward_head)(t, half, type, chunk, rows, t->first_head + h, &s, s.dstates + h * size);
    FM(chunk_finish_shared)(t, half, type, chunk * CHUNK, rows, &s);
  }
  if (!t->out.initial_state) return;
  for (int64_t h = 0; h < t->heads; h++)
    FM(chunk_store_state)(t, s.dstates + h * size, t->out.initial_state + chunk_state_at(t, t->first_head + h));
}

/// The sums of all tasks' parts of one position of one head of keys, in order.
static void FM(chunk_sum_parts)(const chunk_task *t, int64_t row) {
  const fm_gated_scan_shape *s = t->shape;
  int64_t part = s->batch * s->length * s->key_heads * s->key_width, at = row * s->key_width;
  for (int which = 0; which < 2; which++) {
    const float *from = (which ? t->dkey_parts : t->dquery_parts) + at;
    char *to = (char *)(which ? t->out.key : t->out.query) + (s->type == FM_BF16 ? 2 : 4) * at;
    for (int64_t x = 0; x < s->key_width; x += FM_LANES) {
      vf sum = FM(chunk_read)(FM_F32, from, x, s->key_width);
      for (int64_t b = 1; b < t->blocks; b++) sum += FM(chunk_read)(FM_F32, from + b * part, x, s->key_width);
      FM(chunk_write)(s->type, to, x, sum, s->key_width);
    }
  }
}
